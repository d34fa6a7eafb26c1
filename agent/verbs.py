"""What each verb of the command line takes and does."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from tyro.conf import Positional

from ..envs.cost import cost
from ..envs.exporting import BATCHES, Format, check_writable, export, require_onnx
from ..envs.latency import LatencyConfig, measured_latency
from ..envs.limits import Limits, trace_limited
from ..envs.models import get_model
from ..envs.problem import PruningProblem
from ..envs.recovery import RecoveryConfig
from ..envs.tasks import measure
from ..envs.tasks.optional import metric_name
from ..envs.tracing import trace
from .config import DataConfig, LatencyOptions, Procedure, PruningConfig
from .inspection import describe, measurements, page
from .limit_flags import LimitFlags, Repeated
from .pruning import check, prune, search_callbacks
from .report import details_table, table
from .run_folder import RunFolder, check_free, default_folder
from .sources import (
    choose_threads,
    dense_network,
    example_outputs,
    example_shape,
    load_task,
    pruned_network,
    pruned_run,
    train_dense,
    warn_if_memorised,
)
from .training import AgentConfig, train_agent

_PAGE_WIDTH = 160
"""Columns of a page that no terminal limits."""


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)


@dataclass(frozen=True)
class Inspect:
    """Show a network's layers, what is coupled with what, and what is pinned and why."""

    model: Positional[str] = "demo"
    """demo, resnet20|32|44|56|110, vgg16, segnet|segnet16|segnet32, a torchvision classifier or segmentation
    network, or package.module:factory."""
    input_shape: tuple[int, int, int] | None = None
    """Channels, height and width of an image; by default what the network is made for."""
    protect: Repeated = ()
    """Pattern of layers that keep all their filters, as for prune."""
    json: bool = False
    """Print JSON instead of a page."""

    def run(self) -> None:
        """Print the page."""
        shape = self.input_shape or example_shape(self.model)
        classes = example_outputs(self.model, shape)
        model = get_model(self.model, num_classes=classes, in_channels=shape[0])
        network = trace_limited(model, torch.zeros(2, *shape), Limits(protect=self.protect))
        description = describe(self.model, shape, network)
        if self.json:
            json.dump(description, sys.stdout, indent=2)
            print()
        else:
            print(page(description, _console().width))


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
    limits: LimitFlags = field(default_factory=LimitFlags)
    procedure: Procedure = "network"
    """network searches for all layers together; layerwise is Huang et al.'s: layer after layer from the
    input, each with an agent of its own, cut and fine-tuned before the next."""
    agent: Path | None = None
    """Folder of a trained agent: it decides, frozen. Without, one is trained for this network first."""
    evaluations: int = 2000
    """Candidates that the agent tries and learns from; layerwise shares them among the layers."""
    search_images: int = 512
    """Validation images that a candidate is measured on; the choice is made on four times as many."""
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
    seed: int = 0
    """For everything that is drawn."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/<model>-<data>-<method>-<time>."""

    def run(self) -> None:
        """Prune and print the table."""
        config = PruningConfig(
            target_macs=self.target_macs,
            target_latency=self.target_latency,
            latency=self.latency.config(),
            drop_bound=self.drop_bound,
            method=self.method,
            limits=self.limits.parse(),
            procedure=self.procedure,
            layer_epochs=self.layer_epochs,
            agent=self.agent,
            search=AgentConfig(evaluations=self.evaluations),
            recovery=RecoveryConfig(
                epochs=self.epochs,
                distillation_weight=self.distillation_weight,
                temperature=self.temperature,
            ),
            search_images=self.search_images,
            seed=self.seed,
        )
        if self.out is not None:
            check_free(self.out)
        task = load_task(self.data, self.seed)
        model = dense_network(self.model, task, self.weights, self.seed)
        network = check(model, task, config)
        choose_threads(network)
        out = self.out or default_folder(self.model, task.name, self.method)
        folder = RunFolder(out, self)
        notes = []
        if self.weights is None and self.dense_epochs:
            train_dense(model, task, self.dense_epochs, self.seed, folder, "dense")
        elif warning := warn_if_memorised(model, task):
            notes = [warning]
        result = prune(model, task, config, network=network, folder=folder, name=self.model, notes=notes)
        console = _console()
        console.print(table(result.report))
        if result.report["details"]:
            console.print(details_table(result.report))
        console.print(f"everything is in {out}", soft_wrap=True)


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
    """Share of the MACs that may stay, in (0, 1]; 0.5 if neither this nor a drop bound is given."""
    drop_bound: float | None = None
    """Instead of a target: largest accuracy drop on val, percentage points."""
    limits: LimitFlags = field(default_factory=LimitFlags)
    evaluations: int = 2000
    """Candidates that the agent tries and learns from."""
    dense_epochs: int = 30
    """Passes over the training images for dense networks without weights; 0 takes them as they are made."""
    seed: int = 0
    """For everything that is drawn."""
    out: Path | None = None
    """Folder of the run, new or empty; by default runs/agent-<models>-<data>-<time>."""

    def run(self) -> None:
        """Train and save the agent."""
        if not self.models:
            raise ValueError("no network was given; give at least one, such as `secateur train demo`")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError(
                f"{len(self.models)} networks and {len(self.weights)} weights were given; "
                "give one for each, or none"
            )
        wanted = PruningConfig(
            target_macs=self.target_macs, drop_bound=self.drop_bound, limits=self.limits.parse()
        )
        search = AgentConfig(evaluations=self.evaluations)
        if self.out is not None:
            check_free(self.out)
        task = load_task(self.data, self.seed)
        weights = self.weights or (None,) * len(self.models)
        models = [dense_network(n, task, w, self.seed) for n, w in zip(self.models, weights, strict=True)]
        traces = [check(model, task, wanted) for model in models]
        choose_threads(max(traces, key=lambda trace: cost(trace).macs))
        names = [f"{n}#{k}" if self.models.count(n) > 1 else n for k, n in enumerate(self.models, start=1)]
        out = self.out or default_folder("agent", *self.models, task.name)
        folder = RunFolder(out, self)
        problems = []
        for name, model, traced in zip(names, models, traces, strict=True):
            if not self.weights and self.dense_epochs:
                train_dense(model, task, self.dense_epochs, self.seed, folder, f"dense-{name}")
            problems.append(PruningProblem.build(name, model, task, network=traced, seed=self.seed))
        watchers = search_callbacks(search.evaluations, search.episodes_per_update, folder)
        training = train_agent(
            problems, wanted.reward(), search, seed=self.seed, logger=folder.logger, callbacks=watchers
        )
        training.decider.save(out)
        _console().print(
            f"trained on {training.evaluations} candidates in {training.seconds:.0f} s; "
            f"use it with: secateur prune MODEL --agent {out}",
            soft_wrap=True,
        )


@dataclass(frozen=True)
class Evaluate:
    """Measure a pruned run or a dense model on the test images."""

    what: Positional[str]
    """Folder of a prune run, or a model as for prune."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Of a dense model; a run has its own, and its own data unless others are given."""
    json: bool = False
    """Print JSON."""
    seed: int = 0
    """Of the data's splits, for a dense model."""

    def run(self) -> None:
        """Measure and print."""
        run = Path(self.what)
        if (run / "config.yaml").is_file():
            model, task = pruned_run(run, None if self.data == DataConfig() else self.data)
        elif run.is_dir():
            raise ValueError(f"{run} is no finished run: it has no config.yaml")
        else:
            task = load_task(self.data, self.seed)
            model = dense_network(self.what, task, self.weights, self.seed)
            if self.weights is None and ":" not in self.what:
                raise ValueError(f"{self.what} has random weights; give --weights, or the folder of a run")
        network = trace(model, torch.zeros(2, *task.input_shape))
        choose_threads(network)
        measured = measure(model, task, "test")
        found = {
            "metric": metric_name(task),
            "accuracy": measured.accuracy,
            "details": dict(measured.details),
            "loss": measured.loss,
            **asdict(cost(network)),
            "latency_ms": measured_latency(model, task.input_shape, LatencyConfig()),
            "images": measured.images,
        }
        if self.json:
            json.dump(found, sys.stdout, indent=2)
            print()
        else:
            _console().print(measurements(self.what, found))


_RUNS_IN = {"pt2": "torch.export.load", "onnx": "onnxruntime"}
"""What a written file was checked with."""

_BATCHES = " and ".join(map(str, BATCHES))

_FILE = {"pt2": "model.pt2", "onnx": "model.onnx", "safetensors": "state-dict.safetensors"}


@dataclass(frozen=True)
class Export:
    """Write the pruned network of a run as a file that needs neither Secateur nor the network's class."""

    folder: Positional[Path]
    """Folder of a prune run."""
    format: Format = "pt2"
    """pt2 runs by torch.export.load, onnx by any ONNX runtime (needs the extra onnx): both with any batch
    size, and checked against the network before they are there. safetensors holds no code: it is the plain
    state dict, for tools that build the network themselves."""
    out: Path | None = None
    """File to write, a new one; by default model.pt2, model.onnx or state-dict.safetensors in the folder."""

    def run(self) -> None:
        """Write, check, and say what was written."""
        out = self.out or self.folder / _FILE[self.format]
        if self.folder.is_dir():  # else what is wrong is not the file
            check_writable(out)
        if self.format == "onnx":
            require_onnx()
        model, shape = pruned_network(self.folder)
        written = export(model, out, self.format, shape)
        size = f"{written.path} ({out.stat().st_size / 1e6:.2f} MB)"
        if self.format == "safetensors":
            line = f"{size}: state dict of {len(model.state_dict())} tensors"
        else:
            opset = f"ONNX opset {written.opset}, " if written.opset else ""
            line = (
                f"{size}: {opset}input (batch, {', '.join(map(str, shape))}), {written.difference:.1e} "
                f"relative from torch by {_RUNS_IN[self.format]} at batches of {_BATCHES}"
            )
        _console().print(line, soft_wrap=True)
