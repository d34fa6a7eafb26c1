"""What a frozen agent looks at: its keep probabilities, and which features change its decisions.

    python benchmarks/agent_view.py resnet20 zoo_networks:vgg8 --data cifar10=cifar10-folder
        --weights resnet20-cifar10.safetensors zoo/vgg8-cifar10.safetensors --png agent-view.png

Nothing is measured, so an agent is looked at in seconds a network. There are two parts:

* The mean keep probability over the depth and the width of a layer, the target, and the rank of a filter in
  its layer by three criteria, for each family of networks. It is the policy's own, in the episode of its
  deterministic decisions, before logits are shifted to meet a size exactly. Layers of a network count
  equally, and so do networks of a family.
* The share of filters that are decided otherwise when one feature alone is permuted: a filter's among the
  filters of its layer, a layer's among the layers of the network. The other features are those of the
  agent's own episode, and both decisions meet the same size. The target is the same for all layers, so it is
  replaced by that of the next size.

Shapes: L layers, N filters of a layer, M slots (the widest layer).
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
import zoo_networks
from matplotlib.axes import Axes
from policy import add_arguments, problems
from scipy.stats import rankdata
from torch import Tensor

from secateur.agent.deciders.base import Budget
from secateur.agent.learning.budget_matching import decide_layer, masks_from_logits, match_budget
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.policy import FilterScorer
from secateur.envs.cost.counts import size_ratio, smallest_ratio
from secateur.envs.environment.episode import Episode
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES
from secateur.envs.problem.problem import PruningProblem
from secateur.rewards import TargetReward

SIZES = (0.5, 0.25, 0.1)
"""Shares of the MACs of all parts but the curve over the target."""

TARGETS = (*SIZES, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Shares of the MACs of the curve over the target."""

RANKS = {"reconstruction": "reconstruction_rank", "Taylor score": "taylor", "distance (FPGM)": "fpgm"}
"""Criteria by which a filter has its rank, and the features that have the same order."""

LABELS = {
    "depth": "depth of the layer, 0 to 1",
    "width": "width, multiple of the network's mean",
    "target": "target, share of the MACs",
    **{name: f"rank by {name}, 0 to 1" for name in RANKS},
}
"""What the curves are drawn over, and the labels of the axes."""

Floats = npt.NDArray[np.float64]
Observations = dict[str, Tensor]
"""The observations of an episode, (L, ...)."""

View = Callable[[Observations], Observations]
Curves = dict[str, dict[str, list[dict[str, float]]]]
"""Points by column and family."""


def family_of(network: str) -> str:
    """Return the family of a network: that of its name, or of a name that differs in the number of layers."""
    families = zoo_networks.TRAINING_FAMILIES | zoo_networks.HELD_OUT_FAMILIES
    names = {member: family for family, members in families.items() for member in members}
    kinds = {member.rstrip("0123456789"): family for member, family in names.items()}
    return names.get(network) or kinds.get(network.rstrip("0123456789"), network)


@torch.inference_mode()
def own_episode(
    problem: PruningProblem, scorer: FilterScorer, target: float
) -> tuple[Observations, list[Floats], float]:
    """Return observations, keep probabilities, L arrays (N,), and MACs ratio of the policy's own episode."""
    episode = Episode(problem, TargetReward(target), int(problem.network.widths.max()))
    seen: list[Observations] = []
    probabilities = []
    for layer in problem.network.layers:
        observed = episode.observe()
        seen.append({key: torch.from_numpy(observed[key])[None] for key in ("filters", "layer", "mask")})
        logits = scorer.forward_actor(seen[-1])[0, : layer.filters].double().numpy()
        probabilities.append(1 / (1 + np.exp(-logits)))
        episode.decide(decide_layer(layer, logits, 0.0, None))
    left = float(size_ratio(problem.network, [mask.sum() for mask in episode.masks], "macs"))
    return {key: torch.cat([each[key] for each in seen]) for key in seen[0]}, probabilities, left


def filter_table(
    problem: PruningProblem, target: float, probabilities: list[Floats], left: float
) -> dict[str, Any]:
    """Return what the curves are drawn over, one value a filter: columns by name."""
    widths = problem.network.widths
    depth = np.arange(len(widths)) / max(1, len(widths) - 1)
    columns = {name: FILTER_FEATURES.index(feature) for name, feature in RANKS.items()}
    rank = {
        name: [(rankdata(own[:, column]) - 0.5) / len(own) for own in problem.features.filters]
        for name, column in columns.items()
    }
    return {
        "depth": np.repeat(depth, widths),
        "width": np.repeat(np.log2(widths / widths.mean()), widths),
        "target": np.full(widths.sum(), target),
        "left": np.full(widths.sum(), left),
        **{name: np.concatenate(own) for name, own in rank.items()},
        "keep": np.concatenate(probabilities),
        "weight": np.repeat(1 / (len(widths) * widths), widths),
    }


def binned(column: str, values: Floats) -> Floats:
    """Return the middle of the bin of each value."""
    if column in RANKS:
        return np.minimum(np.floor(values * 10), 9) / 10 + 0.05
    if column == "depth":
        return np.minimum(np.floor(values * 5), 4) / 5 + 0.1
    return np.exp2(np.clip(np.round(values), -2, 2)) if column == "width" else values


def curve(filters: dict[str, Any], column: str) -> list[dict[str, float]]:
    """Return the mean keep probability in each bin of a column."""
    chosen = np.isin(filters["target"], TARGETS if column == "target" else SIZES)
    at = binned(column, filters[column])
    points = []
    for value in np.unique(at[chosen]):
        here = chosen & (at == value)
        means = (np.average(filters[key][here], weights=filters["weight"][here]) for key in ("keep", "left"))
        keep, left = (round(float(each), 4) for each in means)
        points.append({"at": round(float(value), 4), "keep": keep, "macs_left": left})
    return points


def views(widths: Sequence[int], other_target: float, seed: int) -> Iterator[tuple[str, View]]:
    """Return functions that change one feature alone, or all of a kind together, by the feature's name."""
    drawn = np.random.default_rng(seed)
    layers, slots = drawn.permutation(len(widths)), np.tile(np.arange(max(widths)), (len(widths), 1))
    for order, width in zip(slots, widths, strict=True):
        order[:width] = drawn.permutation(width)

    def permuted(key: str, columns: Sequence[int], seen: Observations) -> Observations:
        values = seen[key].clone()
        other = values[np.arange(len(widths))[:, None], slots] if key == "filters" else values[layers]
        values[..., columns] = other[..., columns]
        return {**seen, key: values}

    def with_other_target(seen: Observations) -> Observations:
        layer = seen["layer"].clone()
        layer[:, LAYER_FEATURES.index("target")] = other_target
        return {**seen, "layer": layer}

    for key, kind, names in (("filters", "filter", FILTER_FEATURES), ("layer", "layer", LAYER_FEATURES)):
        yield f"{kind}: all", partial(permuted, key, range(len(names)))
        for column, name in enumerate(names):
            changed = with_other_target if name == "target" else partial(permuted, key, [column])
            yield f"{kind}: {name}", changed


@torch.inference_mode()
def kept(
    problem: PruningProblem, scorer: FilterScorer, target: float, seen: Observations
) -> npt.NDArray[np.bool_]:
    """Decide from given observations, at exactly the size; return the masks of all layers, joined."""
    layers = problem.network.layers
    scores = scorer.forward_actor(seen).double().numpy()
    logits = [[row[: layer.filters] for row, layer in zip(scores, layers, strict=True)]]
    (masks,) = match_budget(
        Budget(problem.network, target, "macs"),
        1,
        lambda by: (masks_from_logits(layers, logits, by, []), logits),
    )
    return np.concatenate(masks)


def changes(
    problem: PruningProblem, scorer: FilterScorer, episodes: dict[float, Observations]
) -> dict[str, float]:
    """Return the share of decisions that change, by feature: the mean of a permutation for each size."""
    found: dict[str, list[float]] = {}
    sizes = list(episodes)
    for number, (size, seen) in enumerate(episodes.items()):
        own = kept(problem, scorer, size, seen)
        for name, view in views(problem.network.widths.tolist(), sizes[number - 1], seed=number):
            others = kept(problem, scorer, size, view(seen))
            found.setdefault(name, []).append(float(np.mean(own != others)))
    return {name: round(mean(shares), 4) for name, shares in found.items()}


def look(problem: PruningProblem, scorer: FilterScorer) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the tables of filters of all targets that can be reached, and the changes by feature."""
    reached = [target for target in TARGETS if target >= smallest_ratio(problem.network, "macs")]
    episodes, own = {}, []
    for target in reached:
        seen, probabilities, left = own_episode(problem, scorer, target)
        own.append(filter_table(problem, target, probabilities, left))
        if target in SIZES:
            episodes[target] = seen
    return own, changes(problem, scorer, episodes)


def draw(curves: Curves, png: Path) -> None:
    """Draw the curves, a panel each, a line for each family."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(2, 3, figsize=(10, 7), sharey=True, layout="constrained")
    for (column, label), axes in zip(LABELS.items(), panels.flat, strict=True):
        draw_panel(axes, curves[column])
        axes.set_xlabel(label)
        if column == "width":
            axes.set_xscale("log", base=2)
            axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
        if column == "target":
            shares = np.linspace(0.1, 0.9)
            axes.plot(
                shares, np.sqrt(shares), color="#777777", linestyle=":", label="uniform cut (square root)"
            )
    for axes in panels[:, 0]:
        axes.set_ylabel("mean keep probability")
    handles, labels = panels[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(png, dpi=110)


def draw_panel(axes: Axes, families: dict[str, list[dict[str, float]]]) -> None:
    """Draw a line for each family; families that are held out are dashed."""
    colours = plt.get_cmap("tab20").colors[::2] + plt.get_cmap("tab20").colors[1::2]
    for colour, (family, points) in zip(colours, families.items(), strict=False):
        held_out = family in zoo_networks.HELD_OUT_FAMILIES
        axes.plot(
            [point["at"] for point in points],
            [point["keep"] for point in points],
            color=colour, label=family, linestyle="--" if held_out else "-", marker="o", markersize=2.5,
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.25)


def tables(curves: Curves, changed: dict[str, dict[str, float]]) -> list[str]:
    """Return the tables in Markdown: the ends of each curve, sizes, and changes by feature."""
    ends = [f"| family | {' | '.join(curves)} |", "|---" * (1 + len(curves)) + "|"]
    for family in curves["depth"]:
        first_last = ((own[family][0]["keep"], own[family][-1]["keep"]) for own in curves.values())
        ends.append(f"| {family} | {' | '.join(f'{100 * a:.0f} to {100 * b:.0f}' for a, b in first_last)} |")

    sizes = ["| target, % of the MACs | mean keep probability, % | MACs left, % |", "|---|---|---|"]
    for target in sorted(TARGETS):
        points = [point for own in curves["target"].values() for point in own if point["at"] == target]
        keep, left = (100 * mean(point[key] for point in points) for key in ("keep", "macs_left"))
        sizes.append(f"| {100 * target:.0f} | {keep:.1f} | {left:.1f} |")

    shares = {name: [100 * own[name] for own in changed.values()] for name in next(iter(changed.values()))}
    features = [
        "| feature | decisions that change, % | deviation of the networks |",
        "|---|---|---|",
        *(
            f"| {name} | {mean(own):.1f} | {pstdev(own):.1f} |"
            for name, own in sorted(shares.items(), key=lambda item: -mean(item[1]))
        ),
    ]
    return ["\n".join(rows) for rows in (ends, sizes, features)]


def main() -> None:
    """Look at the agent on all networks, print the tables, and write the figure and the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--png", type=Path, required=True, help="the figure")
    args = parser.parse_args()

    scorer = FrozenAgent.load(args.agent).scorer
    filters: dict[str, list[dict[str, Any]]] = {}
    changed: dict[str, dict[str, float]] = {}
    for problem in problems(args):
        own, changed[problem.name] = look(problem, scorer)
        filters.setdefault(family_of(problem.name), []).extend(own)
        print(f"{problem.name}: seen at {len(own)} sizes", flush=True)
    families = {
        family: {key: np.concatenate([each[key] for each in own]) for key in own[0]}
        for family, own in filters.items()
    }
    curves = {column: {family: curve(own, column) for family, own in families.items()} for column in LABELS}
    draw(curves, args.png)
    print("", *tables(curves, changed), sep="\n\n")
    if args.json:
        args.json.write_text(json.dumps({"curves": curves, "changed": changed}) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
