"""Int8 in onnxruntime: accuracy on test, latency and file of a network in float and int8, dense and pruned.

    python benchmarks/quantise.py --run runs/r20 [--threads 1] [--json quantise.json]

    python benchmarks/quantise.py --model resnet20 --weights resnet20.safetensors --data cifar10-folder
    --augment flip-crop --epochs 1 --train-images 10000 [--target 0.5] [--threads 1] [--json quantise.json]

A run is measured as it is, with its ranges if it was pruned with --quantize int8, else calibrated. A network
with weights is cut by fpgm-global, and recovered in float and under fake quantisation, for as long each; the
dense one is trained under fake quantisation, too. All accuracies are those of the files in onnxruntime.

Latency is that of the fastest pass of many on the CPU, at batch 1 and 64, the networks in turns; on one
thread it is the processor's time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.agent.procedures.pruned_runs import load_pruned_run
from secateur.agent.procedures.quantized_run import load_quantized_run
from secateur.agent.systems.base import Job
from secateur.agent.systems.int8 import Int8, PrunedInt8
from secateur.agent.systems.training import train_stage
from secateur.envs.models import get_model
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.quantization import export_int8
from secateur.envs.quantization.fake import quantized_layers
from secateur.envs.surgery.export import EXACT_SUMS, export
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import Task

_TURNS = {1: 200, 64: 20}
"""Passes that are timed, by batch size."""

BATCHES = tuple(_TURNS)
_MEASURED = 500
"""Images of a batch when the accuracy is measured."""


class InRuntime:
    """A network as a file in onnxruntime.

    Args:
        model: A network in float or under fake quantisation, on the CPU.
        task: The task with the test images.
        threads: Threads of onnxruntime.
    """

    def __init__(self, model: nn.Module, task: Task, threads: int = 1) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            if quantized_layers(model):
                export_int8(model, path, "onnx-int8", task.input_shape)
            else:
                export(model, path, "onnx", task.input_shape)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            if not _has_vnni():
                options.add_session_config_entry(*EXACT_SUMS)
            self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            self.bytes = path.stat().st_size
        self._name = self._session.get_inputs()[0].name

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the network on inputs (B, ...)."""
        (outputs,) = self._session.run(None, {self._name: inputs.numpy()})
        return torch.from_numpy(outputs)

    def accuracy(self, task: Task) -> float:
        """Return the metric on test, percent."""
        statistics = []
        for part in torch.arange(task.size("test")).split(_MEASURED):
            inputs, targets = task.batch("test", part)
            statistics.append(task.statistics(self(inputs), targets))
        return task.metric(torch.stack(statistics).sum(0))


def measure_all(
    networks: Mapping[str, nn.Module], task: Task, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Measure networks by name: ``accuracy``, percent; ``bytes``; ``latency_ms_1`` and ``latency_ms_64``.

    They are timed in turns, so that what else the machine does meets all of them. On one thread the time is
    that of the processor, which other processes do not take.
    """
    files = {name: InRuntime(model, task, threads) for name, model in networks.items()}
    found = {
        name: {"accuracy": file.accuracy(task), "bytes": float(file.bytes)} for name, file in files.items()
    }
    clock = time.process_time if threads == 1 else time.perf_counter
    for batch, turns in _TURNS.items():
        inputs = torch.randn(batch, *task.input_shape)
        times: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(turns):
            for name, file in files.items():
                start = clock()
                file(inputs)
                times[name].append(clock() - start)
        for name, measured in times.items():
            found[name][f"latency_ms_{batch}"] = min(measured) * 1e3
    return found


def _has_vnni() -> bool:
    """Return whether sums of int8 are exact without the option for that, with which they take longer."""
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx_vnni", "avx512_vnni"))


def compare(job: Job, threads: int = 1) -> dict[str, dict[str, float]]:
    """Measure a network dense, pruned, in int8, and both; all but the dense one train for the job's passes.

    Args:
        job: The dense network and its data, and the size.
        threads: Threads of onnxruntime.
    """
    both = PrunedInt8("fpgm-global")(job)
    assert both.plan is not None
    problem = PruningProblem.build(
        job.name, job.model, job.task, network=job.network, seed=job.config.seed,
        compensation_images=job.config.recovery.compensation_images,
    )  # fmt: skip
    pruned = problem.cut(both.plan)
    train_stage(job, pruned, job.epochs, "float")
    networks = {
        "dense": job.model,
        "pruned": pruned,
        "int8": Int8()(job).model,
        "pruned and int8": both.model,
    }
    return measure_all(networks, job.task, threads)


def of_run(folder: Path, threads: int) -> dict[str, dict[str, float]]:
    """Measure the networks of a run; the dense one's accuracy is that of the report."""
    report = json.loads((folder / "report.json").read_text())
    pruned, task = load_pruned_run(folder, None)
    pruned, task = pruned.cpu(), task.to(torch.device("cpu"))
    dense = get_model(report["model"], num_classes=task.num_outputs, in_channels=task.input_shape[0]).eval()
    quantised, _ = load_quantized_run(folder)
    found = measure_all({"dense": dense, "pruned": pruned, "pruned and int8": quantised}, task, threads)
    found["dense"]["accuracy"] = report["dense"]["accuracy"]
    return found


def of_network(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Cut and train a network with weights, and measure it."""
    task = load_task(DataConfig(data=str(args.data), augment=args.augment), args.seed)
    if args.train_images and hasattr(task, "splits"):
        chosen = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(args.seed))
        train = task.splits["train"].take(chosen[: args.train_images].sort().values)
        task = dataclasses.replace(task, splits={**task.splits, "train": train})  # type: ignore[type-var]
    model = build_dense_network(args.model, task, str(args.weights), args.seed).cpu()
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    config = PruningConfig(epochs=args.epochs, seed=args.seed)
    return compare(Job(args.model, model, task, network, args.target, config), args.threads)


def main() -> None:
    """Measure the networks and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="folder of a prune run")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--augment", default="auto")
    parser.add_argument("--epochs", type=int, default=1, help="of each recovery")
    parser.add_argument("--train-images", type=int, default=0, help="0 takes all")
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.run is None and (args.weights is None or args.data is None):
        parser.error("give --run, or --model with --weights and --data")
    found = of_run(args.run, args.threads) if args.run else of_network(args)
    dense = found["dense"]
    print("| network | accuracy, % | file, kB | " + " | ".join(f"ms at batch {n}" for n in BATCHES) + " |")
    print("|---" * (3 + len(BATCHES)) + "|")
    for name, row in found.items():
        times = " | ".join(
            f"{row[key]:.2f} ({row[key] / dense[key]:.0%})" for key in (f"latency_ms_{n}" for n in BATCHES)
        )
        print(f"| {name} | {row['accuracy']:.2f} | {row['bytes'] / 1e3:.0f} | {times} |")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
