"""Print what a trace costs where a pass of the network matters: in passes, and in memory of a training step.

    python benchmarks/trace_cost.py [--only 'resnet*'] [--json benchmarks/trace-cost.json]

*Passes* are the CPU seconds of the trace on one core, its trial cuts included, divided by those of an
evaluation pass of the same network on the same two examples in float32; *operations* are the same of
floating-point operations. *Memory* is the most that the trace adds to the process, divided by what forward
pass, backward pass and step of SGD add. Each measurement has a process of its own; needs Linux.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from secateur.envs.surgery.verification import trace_exactly

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.networks import Architecture, UNet
from support.yolos import YOLOv8

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Row:
    """Cost of one trace.

    Args:
        model: Name of the network.
        pixels: Height and width of the examples.
        seconds: CPU seconds of the trace.
        passes: The same in evaluation passes.
        operations: Floating-point operations of the trace in those of a pass.
        megabytes: What the trace adds to the memory of the process.
        memory: The same in what a training step adds.
    """

    model: str
    pixels: int
    seconds: float
    passes: float
    operations: float
    megabytes: float
    memory: float


def networks() -> list[Architecture]:
    """List large examples."""
    sizes = [("resnet50", 224), ("vgg16", 224), ("mobilenet_v2", 224)]
    found = [Architecture("detector", partial(YOLOv8, 48), (3, pixels, pixels)) for pixels in (320, 640)]
    found.append(Architecture("unet", partial(UNet, 32), (3, 320, 320)))
    for name, pixels in sizes:
        build = partial(torchvision.models.get_model, name)
        found.append(Architecture(name, build, (3, pixels, pixels)))
    return found


def operations(call: Callable[[], object]) -> int:
    """Count the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def pass_seconds(model: nn.Module, inputs: Inputs) -> float:
    """Return the CPU seconds of an evaluation pass, the least of three."""
    model.eval()
    return min(_seconds(partial(_evaluate, model, inputs)) for _ in range(3))


def pass_operations(model: nn.Module, inputs: Inputs) -> int:
    """Count the floating-point operations of an evaluation pass."""
    return operations(partial(_evaluate, model.eval(), inputs))


def _evaluate(model: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        model(*inputs)


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(architecture: Architecture) -> Row:
    """Measure one network, in four processes."""
    seconds, one, trace_memory = (_apart(part, architecture) for part in (_trace, _pass, _trace_memory))
    return Row(
        architecture.name,
        architecture.shape[-1],
        round(seconds, 2),
        round(seconds / one, 1),
        round(_apart(_operations, architecture), 1),
        round(trace_memory),
        round(trace_memory / _apart(_step_memory, architecture), 2),
    )


def _apart(part: Callable[[Architecture], float], architecture: Architecture) -> float:
    """Call in a fresh process, as memory that was freed is not always given back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, architecture).result()


def _trace(architecture: Architecture) -> float:
    torch.set_num_threads(1)
    model, inputs = architecture.model(), architecture.example()
    return _seconds(lambda: trace_exactly(model, inputs))


def _pass(architecture: Architecture) -> float:
    torch.set_num_threads(1)
    return pass_seconds(architecture.model(), architecture.example())


def _operations(architecture: Architecture) -> float:
    model, inputs = architecture.model(), architecture.example()
    return operations(lambda: trace_exactly(model, inputs)) / pass_operations(model, inputs)


def _trace_memory(architecture: Architecture) -> float:
    model, inputs = architecture.model(), architecture.example()
    return _added(lambda: trace_exactly(model, inputs))


def _step_memory(architecture: Architecture) -> float:
    model, inputs = architecture.model(), architecture.example()
    return _added(lambda: _step(model, inputs))


def _step(model: nn.Module, inputs: Inputs) -> None:
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-3)
    leaves = [x for x in tree_leaves(model(*inputs)) if isinstance(x, Tensor) and x.requires_grad]
    torch.stack([x.square().mean() for x in leaves]).sum().backward()
    optimiser.step()


def _added(call: Callable[[], object]) -> float:
    """Return by how many MiB the peak of the resident memory exceeds what was resident before the call."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1024


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [
        "| network | pixels | seconds | in passes | operations in passes | MiB | in training steps |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.model} | {row.pixels} | {row.seconds:.1f} | {row.passes:.1f} | {row.operations:.1f} | "
        f"{row.megabytes:.0f} | {row.memory:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure all networks, or those that a pattern names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="*", help="pattern of names to measure, with * as a wildcard")
    parser.add_argument("--json", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    chosen = [a for a in networks() if fnmatch.fnmatch(a.name, options.only)]
    if not chosen:
        parser.error(f"no network is named like {options.only!r}")
    rows = []
    for architecture in chosen:
        rows.append(measure(architecture))
        print(rows[-1], flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
