"""Train the agent that ships, on the networks that ``zoo_dense.py`` has trained.

    python benchmarks/zoo_agent.py --data cifar10=FOLDER --data-root FOLDER --zoo zoo --out agent

Networks without dense weights are left out, which is said. Measured candidates are kept in a journal, so the
same command goes on where it was stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import zoo_networks
from stable_baselines3.common.logger import configure
from zoo_dense import SEED, data_config, weights_file

from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.training import train_agent
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.evaluation.journal import Journal
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.tasks import Task
from secateur.rewards import TargetRange

TARGETS = TargetRange(0.1, 0.9)
LEARNING = AgentConfig(episodes_per_update=32, group=8, epochs_per_update=12, learning_rate=3e-3)


def main() -> None:
    """Train and save the agent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FOLDER", help="cifar10")
    parser.add_argument("--data-root", type=Path, help="folder of torchvision's MNIST")
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the dense weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=256, help="images of val per candidate")
    parser.add_argument("--agent", help="folder of an agent to train further")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    folders = dict(each.split("=", 1) for each in args.data)
    here = {*folders, *(["mnist"] if args.data_root else [])}
    journal = Journal(args.out / "journal.jsonl")
    tasks: dict[str, Task] = {}
    problems = []
    for network, data in zoo_networks.TRAINING:
        weights = weights_file(args.zoo, network, data)
        if data not in here or not weights.with_suffix(".json").is_file():
            print(f"left out: {network} on {data}, which has no dense weights")
            continue
        if data not in tasks:
            tasks[data] = load_task(data_config(data, folders, args.data_root), seed=SEED)
        model = build_dense_network(f"zoo_networks:{network}", tasks[data], str(weights), seed=SEED)
        problems.append(
            PruningProblem.build(
                f"{network} on {data}", model, tasks[data], images=args.images, journal=journal
            )
        )
        print(f"{problems[-1].name}: {problems[-1].evaluator.dense.accuracy:.1f} % on val", flush=True)
    journal.begin()
    result = train_agent(
        problems,
        TARGETS,
        replace(LEARNING, evaluations=args.evaluations),
        initial_agent=FrozenAgent.load(args.agent) if args.agent else None,
        seed=args.seed,
        logger=configure(str(args.out), ["csv", "tensorboard"]),
    )
    FrozenAgent.save(result.decider, args.out)
    print(f"{result.evaluations} candidates in {result.seconds:.0f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
