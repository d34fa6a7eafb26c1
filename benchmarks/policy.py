"""Whether an agent uses its features: its decisions without some of them, and constant keep ratios.

    python benchmarks/policy.py resnet20 --data cifar10-folder --weights resnet20-cifar10.safetensors --agent
    pretrained

At several sizes, without fine-tuning, on test: the agent; the agent with the features of filters permuted
among the filters of each layer, with those of filters zeroed, with those of layers zeroed; and constant keep
ratios, the same for every layer, by every criterion. ``changed`` is the share of the network's filters that
are decided otherwise than by the agent as it is.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.cost.counts import size_ratio
from secateur.envs.problem.features import STATIC_LAYER_FEATURES, StaticFeatures
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.tasks import measure

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


def accuracy(problem: PruningProblem, masks: list[Mask]) -> float:
    """Cut, re-estimate batch-norm statistics, and measure on test."""
    model = problem.cut(PruningPlan.from_masks(problem.network, masks))
    reestimate_batchnorm(model, problem.task)
    return measure(model, problem.task, "test").accuracy


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--agent", default="pretrained")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    task = load_task(DataConfig(data=args.data, augment="flip-crop"), seed=0)
    problem = PruningProblem.build(
        args.model, build_dense_network(args.model, task, args.weights, seed=0), task
    )
    agent = dataclasses.replace(FrozenAgent.load(args.agent), samples=0)
    rows: list[dict[str, Any]] = []
    for target in args.targets:
        own: list[Mask] | None = None
        for name, masks in decisions(problem, agent, target):
            own = own or masks
            counts = [mask.sum() for mask in masks]
            rows.append(
                {
                    "model": args.model,
                    "target": target,
                    "decision": name,
                    "macs_ratio": float(size_ratio(problem.network, counts, "macs")),
                    "changed": float(np.mean(np.concatenate(own) != np.concatenate(masks))),
                    "accuracy": accuracy(problem, masks),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    heads = [f"{target:.0%} of the MACs: accuracy, % | changed" for target in args.targets]
    print(f"\n| decision | {' | '.join(heads)} |")
    print("|---" * (1 + 2 * len(args.targets)) + "|")
    for name in dict.fromkeys(row["decision"] for row in rows):
        cells = [f"{r['accuracy']:.2f} | {r['changed']:.0%}" for r in rows if r["decision"] == name]
        print(f"| {name} | {' | '.join(cells)} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
