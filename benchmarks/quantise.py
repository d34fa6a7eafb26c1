"""A pruned network in int8: accuracy on test and latency of dense, pruned, and pruned then quantised.

    python benchmarks/quantise.py runs/r20 [--threads 1] [--json quantise.json]

The run's data must still be there. Static quantisation of torch itself (``torch.ao.quantization``, FX graphs,
x86 kernels; deprecated in favour of torchao's, which compiles for minutes): batch-norm is folded, activations
are calibrated on training images without augmentation. Latency is that of the fastest pass on the CPU, in the
faster of the two memory layouts: other load on the machine only adds to it. The dense
network's accuracy is the report's; its latency does not depend on its weights.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from secateur.agent.procedures.loading import load_pruned_run
from secateur.envs.models import get_model
from secateur.envs.tasks import Task, measure

BATCHES = (1, 64)


def quantise(model: nn.Module, task: Task, images: int = 512) -> nn.Module:
    """Calibrate on training images and convert to int8.

    Args:
        model: A network on the CPU that ``torch.fx`` can trace; it is not changed.
        task: The task with the images.
        images: Number of images.
    """
    torch.backends.quantized.engine = "x86"
    size = task.size("train")
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:images]
    inputs, _ = task.batch("train", chosen)
    prepared = prepare_fx(model.eval(), get_default_qconfig_mapping("x86"), (inputs[:2],))
    with torch.no_grad():
        for part in inputs.split(64):
            prepared(part)
    return convert_fx(prepared)


def latencies(model: nn.Module, shape: tuple[int, ...], passes: int = 50) -> dict[str, float]:
    """Return the latency per batch, ms, by batch size."""
    found = {}
    for batch in BATCHES:
        times = []
        for layout in (torch.contiguous_format, torch.channels_last):
            example = torch.zeros(batch, *shape).contiguous(memory_format=layout)
            with torch.inference_mode():
                for _ in range(passes):
                    start = time.perf_counter()
                    model(example)
                    times.append(time.perf_counter() - start)
        found[f"latency_ms_{batch}"] = min(times) * 1e3
    return found


def row(name: str, model: nn.Module, accuracy: float, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the table row of a network."""
    return {"network": name, "accuracy": accuracy, **latencies(model, shape)}


def main() -> None:
    """Measure the three networks and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a prune run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # torch's deprecation warning for its quantisation

    report = json.loads((args.run / "report.json").read_text())
    model, task = load_pruned_run(args.run, None)
    model, task = model.cpu(), task.to(torch.device("cpu"))
    shape = task.input_shape
    dense = get_model(report["model"], num_classes=task.num_outputs, in_channels=shape[0]).eval()
    small = quantise(model, task)
    rows = [
        row("dense", dense, report["dense"]["accuracy"], shape),
        row("pruned", model, measure(model, task, "test").accuracy, shape),
        row("pruned, int8", small, measure(small, task, "test").accuracy, shape),
    ]
    print("| network | accuracy, % | " + " | ".join(f"ms at batch {batch}" for batch in BATCHES) + " |")
    print("|---" * (2 + len(BATCHES)) + "|")
    for found in rows:
        times = " | ".join(f"{found[f'latency_ms_{batch}']:.2f}" for batch in BATCHES)
        print(f"| {found['network']} | {found['accuracy']:.2f} | {times} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
