"""``secateur train``: an agent to be used frozen."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_whole
from ...envs.io.run_files import AGENT_CARD
from ...envs.recovery.config import DENSE_EPOCHS
from ...rewards import TargetRange
from ..learning.config import RANDOM_WEIGHTS, AgentConfig
from ..procedures.config import PruningConfig
from ..procedures.data_config import DataConfig
from .console import console
from .constraint_flags import ConstraintFlags
from .process import choose_threads

_HIDDEN_FEATURES = 0.2


@dataclass(frozen=True)
class Train:
    """Train an agent on one or several networks, to be used frozen with ``secateur prune --agent``."""

    models: Positional[tuple[str, ...]]
    """Networks, as for prune; each episode draws one of them."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: tuple[str, ...] = ()
    """One file or torchvision weights name a network, in their order; without, the dense networks are trained
    first."""
    target_macs: float | None = None
    """Learn this one share of the MACs, in (0, 1]; by default each episode draws another between 0.2 and 0.9,
    so that the agent learns every size."""
    drop_bound: float | None = None
    """Instead of targets: largest accuracy drop on val, percentage points."""
    constraints: ConstraintFlags = field(default_factory=ConstraintFlags)
    evaluations: int = 4000
    """Candidates that the agent tries and learns from."""
    search_images: int = PruningConfig.search_images
    """Validation images that a candidate is measured on; its batch-norm statistics come from half as many
    training images."""
    dense_epochs: int = DENSE_EPOCHS
    """Passes over the training images for dense networks without weights; 0 takes them as they are made."""
    seed: int = PruningConfig.seed
    """For everything that is drawn."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/agent-<models>-<data>-<time>."""

    results: ClassVar[tuple[str, ...]] = (AGENT_CARD,)
    """What a finished run has written last."""

    def run(self, *, resumed: bool = False) -> None:
        """Train and save the agent.

        Args:
            resumed: Go on in ``out``, which an earlier process left.
        """
        from ...envs.cost.counts import cost
        from ...envs.problem.problem import PruningProblem
        from ..learning.training import train_agent
        from ..procedures.loading import build_dense_network, load_task, train_dense_network
        from ..procedures.preparation import prepare
        from ..procedures.prune import search_callbacks
        from ..reporting.trace_page import pinned_markdown
        from ..run.folder import RunFolder, default_folder
        from ..run.new_folder import check_new_folder
        from ..run.search_history import SearchHistory

        if not self.models:
            raise ValueError("no network was given; give at least one, such as `secateur train demo`")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError(
                f"{len(self.models)} networks and {len(self.weights)} weights were given; "
                "give one for each, or none"
            )
        search = AgentConfig(evaluations=self.evaluations, hidden_features=_HIDDEN_FEATURES)
        wanted = PruningConfig(
            target_macs=self.target_macs,
            drop_bound=self.drop_bound,
            constraints=self.constraints.parse(),
            agent=RANDOM_WEIGHTS,
            search=search,
            search_images=self.search_images,
        )
        if self.out is not None and not resumed:
            check_new_folder(self.out)
        check_whole("dense_epochs", self.dense_epochs, 0)
        task = load_task(self.data, self.seed)
        weights = self.weights or (None,) * len(self.models)
        models = [
            build_dense_network(n, task, w, self.seed) for n, w in zip(self.models, weights, strict=True)
        ]
        names = [f"{n}#{k}" if self.models.count(n) > 1 else n for k, n in enumerate(self.models, start=1)]
        prepared = [
            prepare(model, task, wanted, name=name) for name, model in zip(names, models, strict=True)
        ]
        traces = [one.network for one in prepared]
        choose_threads(max(traces, key=lambda trace: cost(trace).macs))
        out = self.out or default_folder("agent", *self.models, task.name)
        is_any_size = self.target_macs is None and self.drop_bound is None
        with RunFolder(out, self, resumed=resumed) as folder:
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
                    compensation_images=0,  # bare candidates differ more, and teach more about other networks
                    journal=folder.journal,
                    seed=self.seed,
                )
                problems.append(problem)
            history, clock = SearchHistory(), folder.journal.begin()
            training = train_agent(
                problems,
                TargetRange() if is_any_size else prepared[0].goal.reward,
                search,
                seed=self.seed,
                logger=folder.logger,
                callbacks=search_callbacks(history, search, folder),
                history=history,
            )
            training.decider.save(out)
        console().print(
            f"trained on {training.evaluations} candidates in {clock.seconds:.0f} s; "
            f"use it with: secateur prune MODEL --agent {out}",
            soft_wrap=True,
        )
