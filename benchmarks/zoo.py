"""A frozen agent beside all heuristics on networks and data that it has not seen, without fine-tuning.

    python benchmarks/zoo.py --zoo zoo --data cifar10=cifar10-folder camvid=camvid-patches --json zoo.json

The dense networks are those of ``zoo_dense.py``. For each pair of network and data of ``HELD_OUT`` and each
share of the MACs: the agent's choice among its own proposals, which are ranked on images of val and train;
its first proposal, with nothing measured; and every heuristic. All have the same compensation (512 images)
and batch-norm statistics of the same images, and are measured on the same images of test, at most 5,000, by
the evaluator that searches use. The rows are kept in the file, and only those that are missing are
computed: for another agent, the heuristics are not measured again.

The agent is the best of a cell if no heuristic is better by more than 0.05 points; ties count as the best.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import zoo_networks
from zoo_dense import SEED, data_config, weights_file

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.names import BASELINES
from secateur.agent.deciders.selection import choose, looks_at
from secateur.agent.learning.config import PRETRAINED
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.cost.counts import smallest_ratio
from secateur.envs.evaluation.base import Evaluator
from secateur.envs.evaluation.factory import EvaluatorFactory
from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.modules.digest import weights_digest
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.envs.tasks import ClassificationTask, Task
from secateur.rewards import TargetReward

CHOSEN, FIRST = "agent", "agent, first proposal"
TIE = 0.05
"""Points within which two accuracies are equal: two images."""

TEST_IMAGES = 5000
"""Images of test, evenly taken: enough for the differences between cuts, in half of the time."""

Row = dict[str, Any]
Cell = tuple[str, str, float]
"""Network, data, and share of the MACs."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a file, which is written after each one.

    Args:
        path: The JSON file.
        agent: Digest of the agent's weights: rows of other agents stay in the file.
        rows: The rows.
    """

    path: Path
    agent: str
    rows: list[Row]

    @classmethod
    def read(cls, path: Path, agent: FrozenAgent) -> "Rows":
        """Read a file, or begin it."""
        rows = json.loads(path.read_text()) if path.is_file() else []
        return cls(path, weights_digest(agent.scorer), rows)

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        if row["method"] in (CHOSEN, FIRST):
            row = {**row, "agent": self.agent}
        self.rows.append(row)
        lines = ",\n".join(json.dumps(each) for each in self.rows)
        write_atomically(self.path, lambda aside: aside.write_text(f"[\n{lines}\n]\n"))
        print(json.dumps(row), flush=True)

    def own(self, cell: Cell, seed: int | None = None) -> dict[str, list[Row]]:
        """Return the rows of a cell by method: this agent's and the heuristics'; None takes all seeds."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            is_own = row.get("agent", self.agent) == self.agent and seed in (None, row["seed"])
            if is_own and (row["network"], row["data"], row["target"]) == cell:
                found.setdefault(row["method"], []).append(row)
        return found


def on_test(problem: PruningProblem) -> Evaluator:
    """Return an evaluator that measures candidates on test instead of val."""
    task = problem.task
    assert isinstance(task, ClassificationTask)
    judge = dataclasses.replace(task, splits={**task.splits, "val": task.splits["test"]})
    factory = EvaluatorFactory(judge, TEST_IMAGES)
    return factory.evaluator(
        problem.model, problem.network, problem.compensation, scope="test", name=problem.name
    )


def agents_choice(problem: PruningProblem, agent: FrozenAgent, target: float, seed: int) -> list[Mask]:
    """Choose among the agent's own proposals by accuracy on val and train, the best ones on more images."""
    options = PruningConfig(seed=seed)
    looks = looks_at(problem, options.look_images, seed=seed + 1)
    return choose(problem, agent, TargetReward(target), looks=looks).masks


def methods(
    problem: PruningProblem, agent: FrozenAgent, target: float, seed: int
) -> dict[str, Callable[[], list[Mask]]]:
    """Return the functions that decide about a cut, by method."""
    sampling, alone = (dataclasses.replace(agent, samples=n, seed=seed) for n in (agent.samples, 0))
    heuristics = {name: Baseline.from_name(name, seed) for name in BASELINES}
    return {
        CHOSEN: lambda: agents_choice(problem, sampling, target, seed),
        FIRST: lambda: alone.decide(problem, target, "macs")[0],
        **{name: lambda h=each: h.decide(problem, target, "macs")[0] for name, each in heuristics.items()},
    }


def measure_pair(
    network: str, data: str, task: Task, agent: FrozenAgent, rows: Rows, args: argparse.Namespace
) -> None:
    """Measure what is missing of a network on its data."""
    cells: list[Cell] = [(network, data, target) for target in args.targets]
    wanted = {CHOSEN, FIRST, *BASELINES}
    seeds = [seed for seed in args.seeds if any(wanted - set(rows.own(cell, seed)) for cell in cells)]
    if not seeds:
        return
    weights = str(weights_file(args.zoo, network, data))
    model = build_dense_network(f"zoo_networks:{network}", task, weights, seed=SEED)
    for seed in seeds:
        images, began = PruningConfig.search_images, time.process_time()
        problem = PruningProblem.build(network, model, task, images=images, seed=seed)
        prepared = round(time.process_time() - began, 2)
        test = on_test(problem)
        for cell in cells:
            if smallest_ratio(problem.network, "macs") > cell[2]:
                print(f"{network} cannot be cut to {cell[2]:.0%} of its MACs: left out", flush=True)
                continue
            done = rows.own(cell, seed)
            for method, decide in methods(problem, agent, cell[2], seed).items():
                if method not in done:
                    common = dict(zip(("network", "data", "target"), cell, strict=True))
                    common |= {
                        "seed": seed,
                        "method": method,
                        "dense": test.dense.accuracy,
                        "preparation_seconds": prepared,
                    }
                    rows.add(common | measured(problem, test, decide))


def measured(problem: PruningProblem, test: Evaluator, decide: Callable[[], list[Mask]]) -> Row:
    """Decide and measure; return the size, the accuracy on test and the seconds of the decision."""
    began = time.process_time()
    masks = decide()
    seconds = time.process_time() - began
    (outcome,) = test([masks])
    accuracy = round(outcome.accuracy, 3)
    return {"macs_ratio": round(outcome.macs_ratio, 4), "accuracy": accuracy, "seconds": round(seconds, 2)}


def print_table(rows: Rows, cells: list[Cell]) -> None:
    """Print a line for each cell, means of the seeds, and in how many the agent is the best."""
    print(
        "\n| network | data | MACs left | dense | agent | best heuristic | | ahead | first proposal | ahead |"
    )
    print("|---" * 10 + "|")
    ahead: dict[str, list[float]] = {CHOSEN: [], FIRST: []}
    for cell in cells:
        own = {method: mean(r["accuracy"] for r in found) for method, found in rows.own(cell).items()}
        if not {CHOSEN, FIRST, *BASELINES} <= own.keys():
            continue
        best = max(BASELINES, key=lambda name: own[name])
        for method, differences in ahead.items():
            differences.append(own[method] - own[best])
        network, data, target = cell
        dense = rows.own(cell)[CHOSEN][0]["dense"]
        shown = f"{dense:.2f} | {own[CHOSEN]:.2f} | {own[best]:.2f} | {best} | {ahead[CHOSEN][-1]:+.2f}"
        first = f"{own[FIRST]:.2f} | {ahead[FIRST][-1]:+.2f}"
        print(f"| {network} | {data} | {target:.0%} | {shown} | {first} |")
    for method, differences in ahead.items():
        if differences:
            print(f"\n{method}: {summary(differences)}")
    for key in ("seconds", "preparation_seconds"):
        taken = [row[key] for cell in cells for row in rows.own(cell).get(CHOSEN, [])]
        if taken:
            print(f"{CHOSEN}, {key} of one core: mean {mean(taken):.1f}, at most {max(taken):.1f}")


def summary(differences: list[float]) -> str:
    """Describe how far a method is ahead of the best heuristic of each cell, in points."""
    best = sum(difference >= -TIE for difference in differences)
    ties = sum(abs(difference) <= TIE for difference in differences)
    share = best / len(differences)
    return (
        f"the best in {best} of {len(differences)} cells ({share:.0%}), {ties} of them ties, "
        f"ahead by {mean(differences):+.2f} points on average, at worst {min(differences):+.2f}"
    )


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="folder of zoo_dense.py")
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FOLDER", help="cifar10, camvid")
    parser.add_argument("--data-root", type=Path, help="folder of torchvision's MNIST")
    parser.add_argument("--agent", default=PRETRAINED, help="folder of an agent, or pretrained")
    parser.add_argument(
        "--targets", type=float, nargs="+", default=[0.5, 0.25, 0.1], help="shares of the MACs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path, required=True, help="rows, read and written")
    args = parser.parse_args()

    agent = FrozenAgent.load(args.agent)
    rows = Rows.read(args.json, agent)
    folders = dict(each.split("=", 1) for each in args.data)
    here = {*folders, *(["mnist"] if args.data_root else [])}
    pairs = []
    for network, data in zoo_networks.HELD_OUT:
        if data in here and weights_file(args.zoo, network, data).with_suffix(".json").is_file():
            pairs.append((network, data))
        else:
            print(f"left out: {network} on {data}, which has no dense weights")
    for data in dict.fromkeys(data for _, data in pairs):
        task = load_task(data_config(data, folders, args.data_root), seed=SEED)
        for network in (network for network, own in pairs if own == data):
            measure_pair(network, data, task, agent, rows, args)
    print_table(rows, [(*pair, target) for pair in pairs for target in args.targets])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
