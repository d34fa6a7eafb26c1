"""``secateur frontier``: accuracy against size, for an agent and baselines."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.atomic_write import write_atomically
from ...envs.io.ranges import check_seed, check_whole
from ...envs.io.wording import counted
from ...envs.surgery.constraints import Constraints
from ...rewards import TargetReward
from ..learning.config import PRETRAINED
from ..procedures.config import PruningConfig
from ..procedures.data_config import DataConfig
from ..procedures.shares import Share
from ..run.progress import Stage
from .console import console
from .process import choose_threads


@dataclass(frozen=True)
class Frontier:
    """Plot accuracy against size for an agent and baselines; the networks are not fine-tuned."""

    model: Positional[str]
    """Network: demo, resnet20|32|44|56|110, vgg16, lenet300|5, segnet, a network of torchvision,
    timm:NAME, hf:OWNER/NAME, torchhub:OWNER/REPO:ENTRY, or package.module:factory of your own."""
    agent: str = PRETRAINED
    """Frozen agent: pretrained for the agent shipped with Secateur, or the folder of a trained agent."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Weights of the dense network: a file, or the name of published weights such as DEFAULT;
    required unless the network is user-defined."""
    methods: tuple[str, ...] = ("taylor-global-per-mac", "fpgm-global", "l2-uniform")
    """Baselines to compare with, such as l2-uniform, taylor-global or bn-global-per-mac."""
    targets: tuple[Share, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Target MACs ratios, pruned / dense, each in (0, 1]."""
    jobs: int = 1
    """Networks pruned at the same time, at least 1; each in a process of its own on a GPU or a core."""
    seed: int = PruningConfig.seed
    """Seed of all random numbers."""
    out: Path | None = None
    """Folder for frontier.png and frontier.json, new or empty; by default
    runs/frontier-<model>-<data>-<time>."""

    everyday: ClassVar[tuple[str, ...]] = (
        "model", "weights", "data", "agent", "methods", "targets", "jobs", "seed", "out",
    )  # fmt: skip
    example: ClassVar[str] = (
        "secateur frontier resnet20 --weights resnet20.pt --data cifar10 --targets 0.3 0.5 0.7"
    )

    def run(self) -> None:
        """Measure the networks, write the figure, and print the numbers."""
        from ...envs.models import is_user_defined
        from ...envs.problem.problem import PruningProblem, check_prunable
        from ...envs.tasks import measure
        from ...envs.tasks.optional_members import metric_name
        from ..deciders.base import Budget, Decider
        from ..deciders.baselines import Baseline
        from ..deciders.selection import looks_at
        from ..learning.frozen_agent import FrozenAgent
        from ..procedures.frontier import frontier
        from ..procedures.opening import dense_networks, open_job
        from ..procedures.preparation import trace_for_task
        from ..reporting.figures import figure_of_frontier
        from ..run.folder import default_folder
        from ..run.new_folder import check_new_folder, new_folder

        if not self.targets:
            raise ValueError("no target was given; give at least one MACs ratio, such as 0.5")
        # All options are checked before anything takes time.
        check_seed(self.seed)
        check_whole("jobs", self.jobs, 1)
        targets = sorted(set(self.targets))
        for target in targets:
            TargetReward(target)
        baselines = [Baseline.from_name(name, self.seed) for name in dict.fromkeys(self.methods)]
        deciders: list[Decider] = [FrozenAgent.load(self.agent, seed=self.seed), *baselines]
        if self.out is not None:
            check_new_folder(self.out)
        if self.weights is None and not is_user_defined(self.model):
            raise ValueError(f"no weights were given for {self.model}; give --weights")
        opened = open_job(self.data, dense_networks([self.model], [self.weights]), self.seed)
        task, model = opened.task, opened.models[0]
        network, _ = trace_for_task(model, task, Constraints())
        check_prunable(network, self.model)
        Budget(network, targets[0], "macs")
        choose_threads(network)
        problem = PruningProblem.build(self.model, model, task, network=network, seed=self.seed)
        options = PruningConfig()
        looks = looks_at(problem, options.look_images, seed=self.seed)
        problem = problem.choice_problem(options.choice_images, seed=self.seed)
        stage = Stage("frontier", len(deciders) * len(targets), "networks")
        points = []
        for point in frontier(problem, deciders, targets, looks=looks, seed=self.seed, jobs=self.jobs):
            points.append(point)
            stage.advance(len(points), f"{point.method} at {point.macs_ratio:.1%}: {point.accuracy:.2f} %")
        stage.close()
        dense = measure(model, task, "test").accuracy
        metric = metric_name(task)
        out = self.out or default_folder("frontier", self.model, task.name)
        content = {"model": self.model, "data": task.name, "metric": metric, "dense": dense,
                   "points": [asdict(point) for point in points]}  # fmt: skip
        text = json.dumps(content, indent=1) + "\n"
        curves = {
            decider.name: [(p.macs_ratio, p.accuracy) for p in points if p.method == decider.name]
            for decider in deciders
        }
        figure = figure_of_frontier(curves, dense, f"{self.model} on {task.name}", metric)
        with new_folder(out):
            write_atomically(out / "frontier.json", lambda path: path.write_text(text))
            write_atomically(out / "frontier.png", lambda path: figure.savefig(path, dpi=150, format="png"))
        page = console()
        page.print(f"dense: {metric} {dense:.2f} %")
        for point in points:
            page.print(
                f"{point.method:24} target {100 * point.target:g} %: MACs {point.macs_ratio:.1%}, "
                f"{metric} {point.accuracy:.2f} %, {counted(point.evaluations, 'candidate')}"
            )
        page.print(f"everything is in {out}", soft_wrap=True)
