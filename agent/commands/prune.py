"""``secateur prune``: prune a network, from the dense model to the report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_whole
from ...envs.io.run_files import REPORT
from ...envs.recovery.config import DENSE_EPOCHS, RecoveryConfig
from ..deciders.names import PPO
from ..learning.config import AgentConfig
from ..procedures.config import LatencyOptions, Procedure, PruningConfig
from ..procedures.data_config import DataConfig
from .console import console
from .constraint_flags import ConstraintFlags
from .process import choose_threads
from .shares import Percentage, Share


@dataclass(frozen=True)
class Prune:
    """Prune a network: choose the filters, cut, fine-tune, and report."""

    model: Positional[str] = "demo"
    """Network: demo, resnet20|32|44|56|110, vgg16, segnet|segnet16|segnet32, a torchvision classifier or
    segmentation network, or package.module:factory for a user-defined one."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Weights of the dense network: a file, or the name of published weights such as DEFAULT; by
    default the dense network is trained first."""
    target_macs: Share | None = None
    """Target MACs ratio, pruned / dense, in (0, 1]; 0.5 if neither another target nor a drop bound is
    given."""
    target_latency: float | None = None
    """Target latency of a forward pass, ms, > 0, estimated from a table of the layers' latencies; excludes a
    MACs target and a drop bound."""
    latency: LatencyOptions = field(default_factory=LatencyOptions)
    drop_bound: Percentage | None = None
    """Largest accuracy drop on val before fine-tuning, percentage points, in (0, 100]; the network becomes as
    small as this allows. Excludes targets."""
    method: str = PruningConfig.method
    """Method that chooses the filters: ppo, or a baseline: random|l1|l2|bn|fpgm|taylor, followed by -uniform,
    -global or -global-per-mac."""
    constraints: ConstraintFlags = field(default_factory=ConstraintFlags)
    procedure: Procedure = PruningConfig.procedure
    """Pruning procedure: network prunes all layers at once; layerwise (Huang et al. 2018, arXiv 1801.07365)
    prunes and fine-tunes layer by layer from the input, with a separate agent for each."""
    agent: str | None = None
    """Initial agent of ppo: pretrained for the agent shipped with Secateur, the folder of a trained agent, or
    none for random weights; by default pretrained, with layerwise none."""
    evaluations: int | None = None
    """Candidates to measure in training on this network, at least 0; 0 uses the initial agent frozen. By
    default 2000, or 0 with an agent from a folder. With layerwise the layers share them equally."""
    search_images: int = PruningConfig.search_images
    """Validation images per candidate during the search, at least 1; each update takes a different subset.
    The final choice is made on eight times as many."""
    epochs: int = RecoveryConfig.epochs
    """Fine-tuning epochs after the cut, at least 0; 0 only re-estimates batch-norm statistics."""
    layer_epochs: int = PruningConfig.layer_epochs
    """Fine-tuning epochs after each layer's cut with layerwise, at least 0; 0 only re-estimates batch-norm
    statistics."""
    dense_epochs: int = DENSE_EPOCHS
    """Training epochs of a dense network without weights, at least 0; 0 does not train it, for factories that
    load weights."""
    distillation_weight: float = RecoveryConfig.distillation_weight
    """Weight of the distillation loss in fine-tuning, in [0, 1]; 0 trains on the labels alone."""
    temperature: float = RecoveryConfig.temperature
    """Distillation temperature for classification, > 0."""
    compensation_images: int = RecoveryConfig.compensation_images
    """Training images for fitting the kept channels that compensate for removed ones, at least 0; 0 turns
    compensation off."""
    seed: int = PruningConfig.seed
    """Seed of all random numbers."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/<model>-<data>-<method>-<time>."""

    results: ClassVar[tuple[str, ...]] = (REPORT,)
    """The files that a run writes last."""

    def run(self, *, resumed: bool = False) -> None:
        """Prune the network and print the table.

        Args:
            resumed: Whether to continue the run of an earlier process in ``out``.
        """
        from ...envs.cost.latency_table import LatencyTable
        from ..procedures.loading import (
            build_dense_network,
            load_task,
            train_dense_network,
            warn_if_memorised,
        )
        from ..procedures.preparation import prepare
        from ..procedures.prune import prune
        from ..reporting.report import details_table, table
        from ..run.folder import RunFolder, default_folder, load_latency_table
        from ..run.new_folder import check_new_folder

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
        latency = load_latency_table(out) if resumed else None
        prepared = prepare(model, task, config, latency=latency, name=self.model)
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
