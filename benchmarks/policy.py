"""Whether an agent uses its features: its decisions without some of them, and constant keep ratios.

    python benchmarks/policy.py resnet20 zoo_networks:vgg8 --data cifar10=cifar10-folder
        --weights resnet20-cifar10.safetensors zoo/vgg8-cifar10.safetensors

At several sizes, without fine-tuning, on test (as in ``zoo.py``): the agent; the agent with the features of
filters permuted among the filters of each layer, with those of filters zeroed, with those of layers zeroed;
and constant keep ratios, the same for every layer, by every criterion. ``changed`` is the share of the
network's filters that are decided otherwise than by the agent as it is. The table shows means of the
networks.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from zoo import on_test
from zoo_dense import SEED, data_config

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.learning.config import PRETRAINED
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.problem.features import STATIC_LAYER_FEATURES, StaticFeatures
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask

CRITERIA = ("l1", "l2", "bn", "fpgm", "taylor")


def permuted(features: StaticFeatures) -> StaticFeatures:
    """Permute the features among the filters of a layer."""
    drawn = np.random.default_rng(0)
    return dataclasses.replace(features, filters=[drawn.permutation(own) for own in features.filters])


def without_filters(features: StaticFeatures) -> StaticFeatures:
    """Set the features of filters to zero."""
    return dataclasses.replace(features, filters=[np.zeros_like(own) for own in features.filters])


def without_layers(features: StaticFeatures) -> StaticFeatures:
    """Set the features of layers to zero, except those of earlier decisions."""
    assert features.layers.shape[1] == len(STATIC_LAYER_FEATURES)
    return dataclasses.replace(features, layers=np.zeros_like(features.layers))


VIEWS: dict[str, Callable[[StaticFeatures], StaticFeatures]] = {
    "agent": lambda features: features,
    "filters' features permuted": permuted,
    "filters' features zeroed": without_filters,
    "layers' features zeroed": without_layers,
}


def decisions(problem: PruningProblem, agent: FrozenAgent, target: float) -> Iterator[tuple[str, list[Mask]]]:
    """Return all decisions at a size, the unchanged agent's first."""
    for name, view in VIEWS.items():
        seen = dataclasses.replace(problem, features=view(problem.features))
        yield name, agent.decide(seen, target, "macs")[0]
    for criterion in CRITERIA:
        yield (
            f"constant keep ratio, {criterion}",
            Baseline(criterion, "uniform").decide(problem, target, "macs")[0],
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which agent and which networks are looked at."""
    parser.add_argument("models", nargs="+", help="names of networks; the zoo's are zoo_networks:NAME")
    parser.add_argument("--weights", nargs="+", required=True, help="files of dense weights, one a network")
    parser.add_argument("--data", required=True, help="mnist, or NAME=FOLDER: cifar10, camvid")
    parser.add_argument("--data-root", type=Path, help="folder of torchvision's MNIST")
    parser.add_argument("--agent", default=PRETRAINED, help="folder of an agent, or pretrained")
    parser.add_argument("--json", type=Path)


def problems(args: argparse.Namespace) -> Iterator[PruningProblem]:
    """Build the networks of the command line, one after the other."""
    if len(args.models) != len(args.weights):
        raise SystemExit(
            f"{len(args.models)} networks and {len(args.weights)} files of weights; give one each"
        )
    name, _, folder = args.data.partition("=")
    task = load_task(data_config(name, {name: folder}, args.data_root), seed=SEED)
    for model, weights in zip(args.models, args.weights, strict=True):
        network = build_dense_network(model, task, weights, seed=SEED)
        yield PruningProblem.build(model.removeprefix("zoo_networks:"), network, task)


def measured(problem: PruningProblem, agent: FrozenAgent, targets: list[float]) -> Iterator[dict[str, Any]]:
    """Measure all decisions about a network."""
    test = on_test(problem)
    for target in targets:
        names, candidates = zip(*decisions(problem, agent, target), strict=True)
        own = np.concatenate(candidates[0])
        for name, masks, outcome in zip(names, candidates, test(candidates), strict=True):
            yield {
                "model": problem.name,
                "target": target,
                "decision": name,
                "macs_ratio": outcome.macs_ratio,
                "changed": float(np.mean(own != np.concatenate(masks))),
                "accuracy": outcome.accuracy,
            }


def print_table(rows: list[dict[str, Any]], targets: list[float]) -> None:
    """Print the means of the networks."""
    heads = [f"{target:.0%} of the MACs: accuracy, % | changed" for target in targets]
    print(f"\n| decision | {' | '.join(heads)} |")
    print("|---" * (1 + 2 * len(targets)) + "|")
    for name in dict.fromkeys(row["decision"] for row in rows):
        cells = []
        for target in targets:
            own = [row for row in rows if (row["decision"], row["target"]) == (name, target)]
            accuracies, changed = ([row[key] for row in own] for key in ("accuracy", "changed"))
            cells.append(f"{mean(accuracies):.2f} | {mean(changed):.0%}")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--targets", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="shares of the MACs"
    )
    args = parser.parse_args()

    agent = dataclasses.replace(FrozenAgent.load(args.agent), samples=0)
    rows: list[dict[str, Any]] = []
    for problem in problems(args):
        for row in measured(problem, agent, args.targets):
            rows.append(row)
            print(json.dumps(row), flush=True)
    print_table(rows, args.targets)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
