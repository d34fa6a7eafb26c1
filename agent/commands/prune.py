"""``secateur prune``: prune a network, from the dense model to the report."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_whole
from ...envs.io.run_files import REPORT
from ...envs.recovery.config import DENSE_EPOCHS
from ..procedures.config import PruningConfig
from ..procedures.data_config import DataConfig
from .console import console
from .process import choose_threads


@dataclass(frozen=True)
class Prune:
    """Prune a network: choose the filters, cut, fine-tune, and report."""

    model: Positional[str] = "demo"
    """Network: demo, resnet20|32|44|56|110, vgg16, lenet300|5, segnet, a network of torchvision,
    timm:NAME, hf:OWNER/NAME, torchhub:OWNER/REPO:ENTRY, or package.module:factory of your own."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Weights of the dense network: a file, or the name of published weights such as DEFAULT; by
    default the dense network is trained first."""
    options: PruningConfig = field(default_factory=PruningConfig)
    teacher: str | None = None
    """Network to distil from in the fine-tuning; named as MODEL, with the same outputs. By default the dense
    network."""
    teacher_weights: str | None = None
    """Weights of the teacher; a file, or the name of published weights."""
    dense_epochs: int = DENSE_EPOCHS
    """Epochs for a network without weights; at least 0; 0 does not train it, for factories that load
    weights."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/<model>-<data>-<method>-<time>."""

    shared: ClassVar[bool] = True
    """Whether several processes share the work."""
    everyday: ClassVar[tuple[str, ...]] = (
        "model", "weights", "data", "target_macs", "target_latency", "drop_bound", "effort", "epochs", "out",
    )  # fmt: skip
    example: ClassVar[str] = "secateur prune resnet20 --weights resnet20.pt --data cifar10 --target-macs 0.5"
    results: ClassVar[tuple[str, ...]] = (REPORT,)
    """The files that a run writes last."""

    def run(self, *, resumed: bool = False) -> None:
        """Prune the network and print the table.

        Args:
            resumed: Whether to continue the run of an earlier process in ``out``.
        """
        from ...envs.cost.latency_table import LatencyTable
        from ...envs.modules.digest import weights_digest
        from ...envs.modules.ranks import broadcast, first_decides
        from ...envs.recovery.stopwatch import Stopwatch
        from ...envs.tasks.fingerprint import data_fingerprint
        from ..procedures.goal import agent_digest
        from ..procedures.loading import train_dense_network
        from ..procedures.opening import dense_networks, open_job
        from ..procedures.preparation import logged, prepare
        from ..procedures.prune import prune
        from ..procedures.teacher import check_teacher, load_teacher
        from ..procedures.val_in_train import without_held_out
        from ..reporting.report import details_table, table
        from ..run.folder import default_folder, load_latency_table
        from ..run.following import open_folder
        from ..run.new_folder import check_new_folder
        from ..run.origin import Origin

        config, seed, clock, given = self.options, self.options.seed, Stopwatch(), self.out
        if given is not None and not resumed:
            first_decides(lambda: check_new_folder(given))
        check_whole("dense_epochs", self.dense_epochs, 0)
        networks = dense_networks([self.model], [self.weights], self.dense_epochs)
        opened = open_job(self.data, networks, seed, resumed=resumed)
        task, model = opened.task, opened.models[0]
        config, more = without_held_out(config, opened.data)
        teacher = load_teacher(self.teacher, self.teacher_weights, task, seed)
        if teacher is not None:
            teacher = check_teacher(teacher, task, config.recovery)
        out = broadcast(given or default_folder(self.model, task.name, config.method))
        if not resumed:
            first_decides(lambda: check_new_folder(out))
        latency = first_decides(lambda: load_latency_table(out)) if resumed else None
        tutor = teacher.model if teacher else None
        prepared = prepare(model, task, config, latency=latency, name=self.model, teacher=tutor)
        network = prepared.network
        choose_threads(network)
        origin = Origin(
            weights_digest(model, *([tutor] if tutor else [])),
            data_fingerprint(task),
            agent_digest(config),
        )
        options = replace(self, data=opened.data)
        with open_folder(out, options, resumed=resumed, origin=origin) as folder:
            if isinstance(network.latency, LatencyTable):
                folder.save_latency_table(network.latency)
            if self.weights is None and self.dense_epochs:
                train_dense_network(model, task, self.dense_epochs, seed, folder, "dense")
            result = prune(
                model,
                task,
                config,
                prepared=prepared,
                folder=folder,
                name=self.model,
                notes=(*opened.notes, *logged(more)),
                clock=clock,
                teacher=teacher,
            )
        page = console()
        page.print(table(result.report))
        if result.report["details"]:
            page.print(details_table(result.report))
        page.print(f"everything is in {out}", soft_wrap=True)
