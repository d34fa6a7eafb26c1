"""``secateur prune``: the whole job."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.cost.latency_table import LatencyTable
from ...envs.io.ranges import check_whole
from ...envs.io.run_files import REPORT
from ...envs.recovery.compensation import COMPENSATION_IMAGES
from ...envs.recovery.config import RecoveryConfig
from ..deciders.names import PPO
from ..learning.config import AgentConfig
from ..procedures.config import LatencyOptions, Procedure, PruningConfig
from ..procedures.data_config import DataConfig
from ..procedures.loading import build_dense_network, load_task, train_dense_network, warn_if_memorised
from ..procedures.preparation import prepare
from ..procedures.prune import prune
from ..reporting.report import details_table, table
from ..run.folder import RunFolder, default_folder, load_latency_table
from ..run.new_folder import check_new_folder
from .console import console
from .constraint_flags import ConstraintFlags
from .process import choose_threads


@dataclass(frozen=True)
class Prune:
    """Prune a network: the whole job, from the dense model to the pruned one and its report."""

    model: Positional[str] = "demo"
    """demo, resnet20|32|44|56|110, vgg16, segnet|segnet16|segnet32, a torchvision classifier or segmentation
    network, or package.module:factory."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """A .safetensors, .pt or .pth file, or a torchvision weights name; without, the dense network is trained
    first."""
    target_macs: float | None = None
    """Share of the MACs that may stay, in (0, 1]; 0.5 if neither this nor a drop bound is given."""
    target_latency: float | None = None
    """Instead of a share of the MACs: milliseconds that one pass may take; the layers are timed first."""
    latency: LatencyOptions = field(default_factory=LatencyOptions)
    drop_bound: float | None = None
    """Instead of a target: as small as this accuracy drop on val allows before fine-tuning, percentage
    points."""
    method: str = "ppo"
    """ppo, or a baseline: random|l1|l2|bn|fpgm|taylor, followed by -uniform, -global or -global-per-mac."""
    constraints: ConstraintFlags = field(default_factory=ConstraintFlags)
    procedure: Procedure = "network"
    """network searches for all layers together; layerwise is Huang et al.'s: layer after layer from the
    input, each with an agent of its own, cut and fine-tuned before the next."""
    agent: str | None = None
    """What ppo begins with: pretrained, the agent that comes with Secateur; the folder of a trained one; or
    none, random weights. By default pretrained, for layerwise none."""
    evaluations: int | None = None
    """Of ppo: candidates that the agent tries and learns from on this network; 0 uses it frozen. By default
    2000, and 0 with the agent of a folder. Layerwise shares them among the layers."""
    search_images: int = 256
    """Validation images that a candidate is measured on, others in each update of the agent; the choice is
    made on eight times as many."""
    epochs: int = 10
    """Passes over the training images after the cut; 0 re-estimates batch-norm only."""
    layer_epochs: int = 1
    """Of layerwise: the same after each layer's cut."""
    dense_epochs: int = 30
    """Passes over the training images for a dense network without weights; 0 takes it as its factory made
    it."""
    distillation_weight: float = 0.5
    """Share of the dense network's answers in the fine-tuning loss, in [0, 1]; 0 is off."""
    temperature: float = 4.0
    """Softens the answers that are distilled, > 0."""
    compensation_images: int = COMPENSATION_IMAGES
    """Training images that tell how kept channels make up for removed ones; 0 lets these just go, as
    published methods do."""
    seed: int = 0
    """For everything that is drawn."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/<model>-<data>-<method>-<time>."""

    results: ClassVar[tuple[str, ...]] = (REPORT,)
    """What a finished run has written last."""

    def run(self, *, resumed: bool = False) -> None:
        """Prune and print the table.

        Args:
            resumed: Go on in ``out``, which an earlier process left.
        """
        config = PruningConfig(
            target_macs=self.target_macs,
            target_latency=self.target_latency,
            latency=self.latency.config(),
            drop_bound=self.drop_bound,
            method=self.method,
            constraints=self.constraints.parse(),
            procedure=self.procedure,
            layer_epochs=self.layer_epochs,
            agent=self.agent,
            search=None if self.evaluations is None else AgentConfig(evaluations=self.evaluations),
            recovery=RecoveryConfig(
                epochs=self.epochs,
                distillation_weight=self.distillation_weight,
                temperature=self.temperature,
                compensation_images=self.compensation_images,
            ),
            search_images=self.search_images,
            seed=self.seed,
        )
        if self.evaluations is not None and self.method != PPO:
            raise ValueError(f"{self.method} learns nothing; leave out --evaluations or --method")
        if self.out is not None and not resumed:
            check_new_folder(self.out)
        check_whole("dense_epochs", self.dense_epochs, 0)
        task = load_task(self.data, self.seed)
        model = build_dense_network(self.model, task, self.weights, self.seed)
        out = self.out or default_folder(self.model, task.name, self.method)
        timed = load_latency_table(out) if resumed else None
        prepared = prepare(model, task, config, latency=timed, name=self.model)
        network = prepared.network
        choose_threads(network)
        with RunFolder(out, self, resumed=resumed) as folder:
            if isinstance(network.latency, LatencyTable):
                folder.save_latency_table(network.latency)
            notes = []
            if self.weights is None and self.dense_epochs:
                train_dense_network(model, task, self.dense_epochs, self.seed, folder, "dense")
            elif warning := warn_if_memorised(model, task):
                notes = [warning]
            result = prune(
                model, task, config, prepared=prepared, folder=folder, name=self.model, notes=notes
            )
        page = console()
        page.print(table(result.report))
        if result.report["details"]:
            page.print(details_table(result.report))
        page.print(f"everything is in {out}", soft_wrap=True)
