"""Print which networks are traced, how much of each can be pruned, and whether the cuts are exact.

    python benchmarks/coverage.py [--only 'timm res*'] [--peer] [--json benchmarks/coverage.json [--resume]]

The networks are those of the contract test, more written for this, and those of packages that are installed
(``tests/support``). *prunable* is the share of filters that can go, *difference* the largest relative one
between the masked and the cut network in float64 over cuts of 30 % and 60 % at random; a network is exact if
it is at most 1e-9, if MACs and parameters are those that torch counts, and if the cut network takes a
training step. *passes* is what a trace with its trial cuts takes in evaluation passes of the same network,
*operations* the same counted in floating-point operations: examples are small, so that of the time most is
Python's (``trace_cost.py`` has larger ones). ``--peer`` lets Torch-Pruning (if installed) prune the same
networks, with the same checks, and notes why it failed. The rows are written after each network;
``--resume`` keeps the rows of an earlier run.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from peer_check import brief, check_peer
from peer_cuts import torch_pruning_at_random
from trace_cost import operations, pass_operations, pass_seconds

from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.detectors import detectors
from support.extras import hugging_face, segmentation_models, ultralytics
from support.networks import OWN, Architecture
from support.promises import assert_counts_are_true, assert_trains, masked_difference, random_plan, randomised
from support.published import classifiers, dense_predictors, timm_networks
from support.varieties import varieties


@dataclass(frozen=True)
class Row:
    """Results for one network.

    Args:
        model: Name of the network.
        group: Kind of network.
        layers: Number of prunable layers.
        prunable: Share of filters that can be removed; the network's outputs are not counted.
        exact: Whether the cuts were exact.
        difference: Largest relative difference; None if something failed.
        seconds: CPU seconds on one core for the trace and its trial cuts.
        passes: The same in evaluation passes of the network on the same examples.
        operations: Floating-point operations of the trace in those of a pass, whatever the machine.
        problem: The failure, or "".
        pinned: The most frequent reason for pinned filters, or "".
        peer_runs: Whether Torch-Pruning's result runs in evaluation mode; None if it was not tried.
        peer_problem: Why its result is wrong, or "".
    """

    model: str
    group: str
    layers: int = 0
    prunable: float = 0.0
    exact: bool = False
    difference: float | None = None
    seconds: float = 0.0
    passes: float = 0.0
    operations: float = 0.0
    problem: str = ""
    pinned: str = ""
    peer_runs: bool | None = None
    peer_problem: str = ""

    def remarks(self) -> str:
        """Return remarks on the network in addition to the numbers."""
        peer = "" if self.peer_runs is None else f"Torch-Pruning: {self.peer_problem or 'right'}"
        return "; ".join(filter(None, [self.problem or self.pinned, peer]))


def networks() -> dict[str, list[Architecture]]:
    """List all networks by kind."""
    return {
        "small networks of the tests": OWN,
        "detectors, written for this": detectors(),
        "other kinds, written for this": varieties(),
        "torchvision, classification": classifiers(),
        "torchvision, segmentation and detection": dense_predictors(),
        "timm": timm_networks(),
        "segmentation_models_pytorch": segmentation_models(),
        "transformers": hugging_face(),
        "ultralytics": ultralytics(),
    }


def measure(group: str, architecture: Architecture, *, peer: bool) -> Row:
    """Trace and cut one network."""
    inputs = tuple(x.double() for x in architecture.example())
    found: dict[str, object] = {}
    heads: list[str] = []
    try:
        model = randomised(architecture.model())
        start = time.process_time()
        network = trace_exactly(model, inputs)
        seconds = time.process_time() - start
        reasons = [layer.cause.reason for layer in network.pinned if layer.pinned > layer.outputs]
        counted = operations(lambda: trace_exactly(model, inputs))
        found = {
            "seconds": round(seconds, 2),
            "passes": round(seconds / pass_seconds(model, inputs), 1),
            "operations": round(counted / pass_operations(model, inputs), 1),
            "layers": len(network.layers),
            "prunable": round(network.prunable_share, 4),
            "pinned": statistics.mode(reasons) if reasons else "",
        }
        heads = [layer.name for layer in network.pinned if layer.outputs]
        worst = 0.0
        for sparsity in (0.3, 0.6):
            plan = random_plan(network, sparsity)
            worst = max(worst, masked_difference(model, network, plan, plan, inputs))
            smaller = cut(model, network, plan)
            assert_counts_are_true(network, plan, smaller, inputs)
            assert_trains(smaller, inputs)
            del smaller
        found |= {"exact": worst <= TOLERANCE, "difference": worst}
    except Exception as error:  # a benchmark reports what fails and goes on
        found["problem"] = brief(error)
    if peer:
        verdict = check_peer(lambda: randomised(architecture.model()), inputs, heads, torch_pruning_at_random)
        found |= {"peer_runs": verdict.runs, "peer_problem": verdict.problem}
    return Row(architecture.name, group, **found)


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with one row per group."""
    lines = [
        "| networks | number | exact | prunable, median | passes, median (most) | seconds, median (most) "
        "| Torch-Pruning runs | and is right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = dict.fromkeys(row.group for row in rows)
    parts = [(name, [row for row in rows if row.group == name]) for name in groups]
    for name, part in [*parts, ("all", list(rows))]:
        share = statistics.median(row.prunable for row in part)
        costs = [
            f"{statistics.median(values):.1f} ({max(values):.1f})"
            for values in ([row.operations for row in part], [row.seconds for row in part])
        ]
        peer_rows = [row for row in part if row.peer_runs is not None]
        runs, right = (
            sum(bool(row.peer_runs) for row in peer_rows),
            sum(not row.peer_problem for row in peer_rows),
        )
        lines.append(
            f"| {name} | {len(part)} | {sum(row.exact for row in part)} | {100 * share:.0f} % | "
            f"{costs[0]} | {costs[1]} | "
            + (f"{runs} of {len(peer_rows)} | {right} |" if peer_rows else "- | - |")
        )
    return "\n".join(lines)


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows atomically, one per line."""
    aside = path.with_suffix(".part")
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    aside.write_text(f"[\n{lines}\n]\n")
    aside.replace(path)


def main() -> int:
    """Measure all networks, or those that a pattern names; fail if one is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="*", help="pattern of names to measure, with * as a wildcard")
    parser.add_argument("--peer", action="store_true", help="prune with Torch-Pruning, too")
    parser.add_argument("--json", type=Path, help="JSON file for the rows")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows in the file and measure only the other networks"
    )
    options = parser.parse_args()
    if options.peer and importlib.util.find_spec("torch_pruning") is None:
        parser.error("--peer needs Torch-Pruning: run this in the environment of peers-requirements.txt")
    for group in (name for name, part in networks().items() if not part):
        print(f"{group}: not installed, left out")
    chosen = [(g, a) for g, part in networks().items() for a in part if fnmatch.fnmatch(a.name, options.only)]
    if not chosen:
        parser.error(f"no network is named like {options.only!r}")
    warnings.filterwarnings("ignore")  # of the models' own constructors
    rows: list[Row] = []
    if options.resume and options.json and options.json.is_file():
        rows = [Row(**row) for row in json.loads(options.json.read_text())]
    done = {row.model for row in rows}
    heading = f"{'model':44} {'prunable':>8} {'difference':>10} {'exact':>5} {'seconds':>7} {'passes':>6}"
    print(f"{heading} {'operations':>10}  remarks")
    for group, architecture in chosen:
        if architecture.name in done:
            continue
        row = measure(group, architecture, peer=options.peer)
        gc.collect()  # Torch-Pruning's graphs are reference cycles, gigabytes of them after a timeout
        rows.append(row)
        if options.json:
            write(options.json, rows)
        difference = "-" if row.difference is None else f"{row.difference:.0e}"
        print(
            f"{row.model:44} {row.prunable:8.1%} {difference:>10} {'yes' if row.exact else 'NO':>5} "
            f"{row.seconds:7.1f} {row.passes:6.0f} {row.operations:10.1f}  {row.remarks()}",
            flush=True,
        )
    print(table(rows))
    return 0 if all(row.exact for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
