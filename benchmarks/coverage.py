"""Print which networks are traced, how much of each can be pruned, and whether the cuts are exact.

    python benchmarks/coverage.py [--only 'timm res*'] [--peer] [--json coverage.json]

The networks are those of the contract test (``tests/networks.py``, ``tests/published.py``). *prunable* is the
share of filters that can go, *difference* the largest relative one between the masked and the cut network in
float64 over cuts of 30 % and 60 % at random; a network is exact if it is at most 1e-9 and if MACs and
parameters are those that torch counts. ``--peer`` lets Torch-Pruning (if installed) prune the same networks
and notes why it failed.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import signal
import statistics
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.envs.surgery import cut
from secateur.envs.verification import TOLERANCE, trace_exactly

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from networks import OWN, Architecture
from promises import assert_counts_are_true, masked_difference, random_plan, randomised
from published import published

_PATIENCE = 60
"""Seconds that Torch-Pruning may take for one network; it does not come back from some."""


@dataclass(frozen=True)
class Row:
    """One network.

    Args:
        model: Its name.
        layers: Layers that can be decided about.
        prunable: Share of filters that can go; the network's outputs are not counted.
        exact: Whether the cuts were exact.
        difference: Largest relative difference, None where something failed.
        seconds: For the trace and its trial cuts.
        problem: What failed, or "".
        pinned: The most frequent reason for pinned filters, or "".
        peer: "ok" or what Torch-Pruning failed with; "" where it was not asked.
    """

    model: str
    layers: int = 0
    prunable: float = 0.0
    exact: bool = False
    difference: float | None = None
    seconds: float = 0.0
    problem: str = ""
    pinned: str = ""
    peer: str = ""


def measure(architecture: Architecture, *, peer: bool) -> Row:
    """Trace and cut one network."""
    asked = prune_with_peer(architecture) if peer else ""
    try:
        model = randomised(architecture.model())
        inputs = tuple(x.double() for x in architecture.example())
        start = time.perf_counter()
        network = trace_exactly(model, inputs)
        seconds = time.perf_counter() - start
        worst = 0.0
        for sparsity in (0.3, 0.6):
            plan = random_plan(network, sparsity)
            worst = max(worst, masked_difference(model, network, plan, plan, inputs))
            assert_counts_are_true(network, plan, cut(model, network, plan), inputs)
    except Exception as error:  # a benchmark reports what fails and goes on
        return Row(architecture.name, problem=_short(error), peer=asked)
    reasons = [layer.cause.reason for layer in network.pinned if layer.pinned > layer.outputs]
    return Row(
        architecture.name,
        layers=len(network.layers),
        prunable=network.prunable_share,
        exact=worst <= TOLERANCE,
        difference=worst,
        seconds=seconds,
        pinned=statistics.mode(reasons) if reasons else "",
        peer=asked,
    )


def prune_with_peer(architecture: Architecture) -> str:
    """Let Torch-Pruning remove 30 % of every layer, in evaluation mode, and run the result."""
    import torch_pruning

    model, inputs = architecture.model().eval(), architecture.example()
    example = inputs[0] if len(inputs) == 1 else inputs
    try:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(_PATIENCE)
        outputs = [x for x in tree_leaves(model(*inputs)) if isinstance(x, Tensor)]
        classes = {x.shape[1] for x in outputs if x.ndim > 1}
        heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features in classes]
        importance = torch_pruning.importance.RandomImportance()
        torch_pruning.pruner.BasePruner(
            model, example, importance=importance, pruning_ratio=0.3, ignored_layers=heads
        ).step()
        with torch.no_grad():
            model(*inputs)
    except Exception as error:  # whatever it fails with is the finding
        return _short(error)
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    return "ok"


def _give_up(*_: object) -> None:
    raise TimeoutError(f"not done after {_PATIENCE} s")


def _short(error: Exception) -> str:
    text = " ".join((str(error) or repr(error)).split())
    return f"{type(error).__name__}: {text[:120]}"


def summary(rows: list[Row]) -> str:
    """Say in one line what came out."""
    exact = sum(row.exact for row in rows)
    seconds = [row.seconds for row in rows if not row.problem]
    line = f"{exact} of {len(rows)} networks exact"
    if seconds:
        line += f", {statistics.median(seconds):.1f} s in the median, {max(seconds):.1f} s at most"
    if any(row.peer for row in rows):
        line += f"; Torch-Pruning runs on {sum(row.peer == 'ok' for row in rows)}"
    return line


def main() -> int:
    """Measure all networks, or those that a pattern names; fail if one is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="*", help="names to measure, with * for anything")
    parser.add_argument("--peer", action="store_true", help="let Torch-Pruning try too")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args()
    if options.peer and importlib.util.find_spec("torch_pruning") is None:
        parser.error("--peer needs Torch-Pruning: pip install torch-pruning")
    chosen = [a for a in [*OWN, *published()] if fnmatch.fnmatch(a.name, options.only)]
    if not chosen:
        parser.error(f"no network is named like {options.only!r}")
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _give_up)
    warnings.filterwarnings("ignore")  # of the models' own constructors
    print(f"{'model':44} {'prunable':>8} {'difference':>10} {'exact':>5} {'seconds':>7}  remarks")
    rows = []
    for architecture in chosen:
        row = measure(architecture, peer=options.peer)
        rows.append(row)
        difference = "-" if row.difference is None else f"{row.difference:.0e}"
        remarks = "; ".join(
            filter(None, [row.problem or row.pinned, row.peer and f"Torch-Pruning: {row.peer}"])
        )
        print(
            f"{row.model:44} {row.prunable:8.1%} {difference:>10} {'yes' if row.exact else 'NO':>5} "
            f"{row.seconds:7.1f}  {remarks}",
            flush=True,
        )
    print(summary(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.exact for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
