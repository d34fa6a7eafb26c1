"""``secateur compare``: the agent beside the other ways of pruning."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_whole
from ...envs.io.run_files import COMPARISON
from ...envs.recovery.config import DENSE_EPOCHS
from ..comparison.config import ComparisonConfig
from ..procedures.data_config import DataConfig
from .console import console
from .process import choose_threads


@dataclass(frozen=True)
class Compare:
    """Compare ways of pruning, on the same network, data and training."""

    model: Positional[str] = "demo"
    """Network: demo, resnet20|32|44|56|110, vgg16, lenet300|5, segnet, a network of torchvision,
    timm:NAME, hf:OWNER/NAME, torchhub:OWNER/REPO:ENTRY, or package.module:factory of your own."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Weights of the dense network: a file, or the name of published weights such as DEFAULT; by
    default the dense network is trained first."""
    options: ComparisonConfig = field(default_factory=ComparisonConfig)
    dense_epochs: int = DENSE_EPOCHS
    """Epochs for a network without weights; at least 0; 0 does not train it, for factories that load
    weights."""
    jobs: int = 1
    """Runs at the same time, at least 1; each in a process of its own on a GPU or a core; this changes no
    result."""
    out: Path | None = None
    """Folder of the comparison, new or empty, with a folder for each run; by default
    runs/compare-<model>-<data>-<time>."""

    aliases: ClassVar[dict[str, str]] = {"--target-macs": "--targets"}
    """Other names of flags."""
    everyday: ClassVar[tuple[str, ...]] = (
        "model", "weights", "data", "methods", "targets", "seeds", "epochs", "jobs", "out",
    )  # fmt: skip
    example: ClassVar[str] = (
        "secateur compare resnet20 --weights resnet20.pt --data cifar10 --methods agent,fpgm-global"
    )
    results: ClassVar[tuple[str, ...]] = (COMPARISON,)
    """The files that a comparison writes last."""

    def run(self, *, resumed: bool = False) -> None:
        """Compare and print the table.

        Args:
            resumed: Whether to continue the comparison of an earlier process in ``out``.
        """
        from ...envs.modules.digest import weights_digest
        from ...envs.tasks.fingerprint import data_fingerprint
        from ..comparison.front_door import Comparison, checked_network, compare_in
        from ..procedures.loading import train_dense_network
        from ..procedures.opening import dense_networks, open_job
        from ..run.folder import RunFolder, default_folder
        from ..run.new_folder import check_new_folder
        from ..run.origin import Origin
        from ..systems.registry import SYSTEMS

        config, seed = self.options, self.options.seeds[0]
        config.check_methods(SYSTEMS)
        check_whole("jobs", self.jobs, 1)
        check_whole("dense_epochs", self.dense_epochs, 0)
        if self.out is not None and not resumed:
            check_new_folder(self.out)
        networks = dense_networks([self.model], [self.weights], self.dense_epochs)
        opened = open_job(self.data, networks, seed, resumed=resumed)
        task, model = opened.task, opened.models[0]
        out = self.out or default_folder("compare", self.model, task.name)
        network = checked_network(model, task, config, self.model)
        choose_threads(network)
        origin = Origin(weights_digest(model), data_fingerprint(task))
        options = replace(self, data=opened.data)
        with RunFolder(out, options, resumed=resumed, origin=origin) as folder:
            if self.weights is None and self.dense_epochs:
                train_dense_network(model, task, self.dense_epochs, seed, folder, "dense")
            content = compare_in(folder, self.model, model, task, network, opened.data, config, self.jobs)
        console().print(str(Comparison(content)), soft_wrap=True, markup=False, highlight=False)
        console().print(f"everything is in {out}; the page is {out / 'compare.html'}", soft_wrap=True)
