"""``secateur train``: train an agent for use on other networks."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_seed, check_whole
from ...envs.io.run_files import AGENT_CARD
from ...envs.io.wording import counted
from ...envs.recovery.config import DENSE_EPOCHS
from ...rewards import Reward, TargetRange, TargetReward, TryAndLearnReward
from ..learning.config import AgentConfig
from ..procedures.config import PruningConfig
from ..procedures.data_config import DataConfig
from ..procedures.options import ConstraintOptions
from ..procedures.shares import Percentage, Share
from .console import console
from .process import choose_threads

_HIDDEN_FEATURES = 0.2

_GROUP = 8
"""Candidates with the same network and target, which are compared with each other; half of an update."""


@dataclass(frozen=True)
class Train:
    """Train an agent on one or several networks, for use in prune --agent."""

    models: Positional[tuple[str, ...]]
    """Networks to train on, named as for prune; each episode samples one."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: tuple[str, ...] = ()
    """Weights of the dense networks, one per network in the same order: files, or names of published weights;
    by default the dense networks are trained first."""
    target_macs: Share | None = None
    """Target MACs ratio, pruned / dense, in (0, 1]; by default each episode samples one between 0.2 and 0.9,
    so that the agent learns all sizes that the network can reach."""
    drop_bound: Percentage | None = None
    """Largest accuracy drop on val before fine-tuning, percentage points, in (0, 100]; excludes targets."""
    constraints: ConstraintOptions = field(default_factory=ConstraintOptions)
    evaluations: int = 4000
    """Candidates to measure in training, at least 1, rounded up to whole updates."""
    search_images: int = PruningConfig.search_images
    """Validation images per candidate, at least 1; each update takes a different subset. Batch-norm
    statistics are re-estimated on half as many training images up to 128, then on a quarter."""
    dense_epochs: int = DENSE_EPOCHS
    """Training epochs of dense networks without weights, at least 0; 0 does not train them, for factories
    that load weights."""
    seed: int = PruningConfig.seed
    """Seed of all random numbers."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/agent-<models>-<data>-<time>."""

    shared: ClassVar[bool] = True
    """Whether several processes share the work."""
    everyday: ClassVar[tuple[str, ...]] = (
        "models", "weights", "data", "target_macs", "drop_bound", "evaluations", "out",
    )  # fmt: skip
    example: ClassVar[str] = "secateur train resnet20 vgg16 --data cifar10 --out runs/agent"
    results: ClassVar[tuple[str, ...]] = (AGENT_CARD,)
    """The files that a run writes last."""

    @property
    def reward(self) -> Reward | TargetRange:
        """What candidates are scored by.

        Raises:
            ValueError: If two were given, or a number is out of its range.
        """
        if self.target_macs is not None and self.drop_bound is not None:
            raise ValueError("an agent is trained for a target or for a drop bound; give one of them")
        if self.drop_bound is not None:
            return TryAndLearnReward(self.drop_bound)
        return TargetRange() if self.target_macs is None else TargetReward(self.target_macs)

    def run(self, *, resumed: bool = False) -> None:
        """Train and save the agent.

        Args:
            resumed: Whether to continue the run of an earlier process in ``out``.
        """
        from ...envs.cost.counts import cost
        from ...envs.modules.digest import weights_digest
        from ...envs.modules.ranks import broadcast, first_decides
        from ...envs.problem.problem import PruningProblem
        from ...envs.tasks.fingerprint import data_fingerprint
        from ..deciders.base import Budget
        from ..learning.training import train_agent
        from ..procedures.loading import train_dense_network
        from ..procedures.opening import dense_networks, open_job
        from ..procedures.preparation import prepare_network
        from ..procedures.search import search_callbacks
        from ..reporting.trace_page import pinned_markdown
        from ..run.folder import default_folder
        from ..run.following import open_folder
        from ..run.new_folder import check_new_folder
        from ..run.origin import Origin
        from ..run.search_history import SearchHistory

        if not self.models:
            raise ValueError("no network was given; give at least one, such as `secateur train demo`")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError(
                f"{len(self.models)} networks and {len(self.weights)} weights were given; "
                "give weights for each network, or for none"
            )
        search = AgentConfig(evaluations=self.evaluations, hidden_features=_HIDDEN_FEATURES, group=_GROUP)
        reward, given = self.reward, self.out
        check_whole("evaluations", self.evaluations, 1)
        check_whole("search_images", self.search_images, 1)
        check_seed(self.seed)
        if given is not None and not resumed:
            first_decides(lambda: check_new_folder(given))
        check_whole("dense_epochs", self.dense_epochs, 0)
        networks = dense_networks(self.models, self.weights or (None,) * len(self.models), self.dense_epochs)
        opened = open_job(self.data, networks, self.seed, resumed=resumed)
        task, models = opened.task, opened.models
        names = [f"{n}#{k}" if self.models.count(n) > 1 else n for k, n in enumerate(self.models, start=1)]
        traces = [
            prepare_network(model, task, self.constraints.constraints, name)[0]
            for name, model in zip(names, models, strict=True)
        ]
        if self.target_macs is not None:
            for network in traces:
                Budget(network, self.target_macs, "macs")
        choose_threads(max(traces, key=lambda trace: cost(trace).macs))
        out = broadcast(given or default_folder("agent", *self.models, task.name))
        origin = Origin(weights_digest(*models), data_fingerprint(task))
        options = replace(self, data=opened.data)
        with open_folder(out, options, resumed=resumed, origin=origin) as folder:
            problems = []
            for name, model, traced in zip(names, models, traces, strict=True):
                folder.log_text(f"pinned/{name}", pinned_markdown(traced))
                if not self.weights and self.dense_epochs:
                    train_dense_network(model, task, self.dense_epochs, self.seed, folder, f"dense-{name}")
                problem = PruningProblem.build(
                    name,
                    model,
                    task,
                    network=traced,
                    images=self.search_images,
                    journal=folder.journal,
                    seed=self.seed,
                )
                problems.append(problem)
            history, clock = SearchHistory(), folder.journal.begin()
            training = train_agent(
                problems,
                reward,
                search,
                seed=self.seed,
                logger=folder.logger,
                callbacks=search_callbacks(history, search, folder),
                history=history,
            )
            folder.write(training.decider.save)
        console().print(
            f"trained on {counted(training.evaluations, 'candidate')} in {clock.seconds:.0f} s; "
            f"use it with: secateur prune MODEL --agent {out}",
            soft_wrap=True,
        )
