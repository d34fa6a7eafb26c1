"""Blocks and filters at the same latency: ResNet-56 on CIFAR-10 at batch 1, and the latency of ResNet-50.

    python benchmarks/blocks.py --data cifar10 --weights resnet56.safetensors --json blocks.json

*accuracy*: filters alone, blocks alone and both at two shares of the dense latency, one thread. The filters
are the best on val of three heuristics and the frozen agent; both is the best on val among numbers of blocks
above 0.
All are compensated, measured on test with batch-norm re-estimated, and again after a short recovery: steps of
the recipe on the labels alone. val is one half of the folder's test, test the other. *latency*: ResNet-50
with random weights at 224x224, without blocks and with fewer filters in every layer at the same MACs.
Latencies are the fastest passes, in turns with the dense network, and only their ratio counts. Rows that are
in the JSON file are not measured again; the same command goes on, and begins no row after ``--minutes``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.agent.procedures.block_order import BlockOrder, Dropped
from secateur.agent.procedures.block_sizes import BlockSizes, best_filters
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import load_task
from secateur.agent.procedures.short_recovery import shortened
from secateur.envs.cost import timer
from secateur.envs.cost.latency_table import LatencyTable
from secateur.envs.cost.profiling import TimingCache, cut_to
from secateur.envs.cost.timer import Timing
from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.tensor_files import read_tensors
from secateur.envs.models import get_model
from secateur.envs.modules.calls import as_calls
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.block_removal import remove_blocks
from secateur.envs.surgery.blocks import drop_blocks, find_blocks
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import Task, measure
from secateur.envs.tracing import trace

SHARES = (0.6, 0.4)
"""Shares of the dense latency."""

STEP = 6
"""Blocks from one number that is tried to the next."""

RECOVERY = RecoveryConfig(epochs=1, distillation_weight=0.0)
STEPS = 60
"""Steps of the short recovery, of 128 images each: a pass over a sixth of the training images."""

MOST_TEST = 2500
"""Images of test, spread evenly."""

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of the JSON file."""

    path: Path
    until: float

    def __post_init__(self) -> None:
        self.rows: list[Row] = json.loads(self.path.read_text()) if self.path.is_file() else []

    def find(self, **key: object) -> Row | None:
        """Return the row with some values, if there is one."""
        return next((row for row in self.rows if all(row.get(k) == v for k, v in key.items())), None)

    def add(self, row: Row) -> None:
        """Add a row and write the file; end the process if its time is over."""
        self.rows.append(row)
        print({key: value for key, value in row.items() if key != "kept"}, flush=True)
        text = "[\n" + ",\n".join(json.dumps(each) for each in self.rows) + "\n]\n"
        write_atomically(self.path, lambda path: path.write_text(text))
        if time.monotonic() > self.until:
            raise SystemExit(f"not all is measured; go on with the same command, {self.path} has the rows")


class Accuracy:
    """ResNet-56 at the same latency by filters, blocks and both.

    Args:
        rows: The rows.
        task: CIFAR-10.
        weights: Its checkpoint.
    """

    def __init__(self, rows: Rows, task: Task, weights: Path) -> None:
        self.rows, self.task = rows, task
        self.model = get_model("resnet56", num_classes=10, in_channels=3)
        self.model.load_state_dict(read_tensors(weights)[0])
        self.model.eval()
        self.example = torch.zeros(2, *task.input_shape)
        self.config = PruningConfig(target_latency=1.0, effort="quick", latency_threads=1)
        self.cache: TimingCache = {}

    @cached_property
    def sizes(self) -> BlockSizes:
        """The dense network, and those without blocks."""
        return BlockSizes(
            self.model, self.task, trace_exactly(self.model, self.example), self.config, self.cache
        )

    def measure(self) -> None:
        """Measure the rows that are missing."""
        if self.rows.find(part="accuracy", way="dense") is None:
            found = measure(self.model, self.task, "test", limit=MOST_TEST).accuracy
            self.rows.add({"part": "accuracy", "way": "dense", "before": found, "blocks": 0})
        for number in range(0, len(self._order()["blocks"]) + 1, STEP):
            self._propose(number)
        for share in SHARES:
            proposed = [row for row in self.rows.rows if row["part"] == "proposal" and row["share"] == share]
            for way, rows in (
                ("filters", [row for row in proposed if row["blocks"] == 0]),
                ("both", [row for row in proposed if row["blocks"] > 0]),
            ):
                best = max(rows, key=lambda row: row["val"])
                if best["kept"] is not None:  # the latency may be out of reach
                    self._recover(way, share, best)
            self._recover("blocks", share, self._alone(share))

    def _order(self) -> Row:
        """Return the blocks in the order in which they go, and the latency without the first of them."""
        row = self.rows.find(part="order")
        if row is None:
            order = BlockOrder(self.task, as_calls(self.example), self.sizes.means, self.config.search_images)
            latencies, begun = list[float](), time.process_time()
            for dropped in order(self.model):
                latencies.append(_latency(self.model, dropped.model, self.example))
                if latencies[-1] <= min(SHARES):
                    break
            seconds = round(time.process_time() - begun)
            row = {"part": "order", "blocks": dropped.blocks, "latencies": latencies, "seconds": seconds}
            self.rows.add(row)
        return row

    def _without(self, number: int) -> Dropped:
        blocks = tuple(self._order()["blocks"][:number])
        model = drop_blocks(self.model, blocks, as_calls(self.example), self.sizes.means)
        return Dropped(blocks, model if blocks else replica(self.model), 0.0)

    def _propose(self, number: int) -> None:
        """Let filters be proposed for the network without some blocks, at both latencies."""
        missing = [s for s in SHARES if not self.rows.find(part="proposal", blocks=number, share=s)]
        if not missing:
            return
        dropped = self._without(number)
        dense = self._dense_ms()
        table: LatencyTable | None = None
        for share in missing:
            self.sizes.config = replace(self.config, target_latency=share * dense)
            sized = self.sizes.of(dropped, table)
            assert isinstance(sized.network.latency, LatencyTable)
            table = sized.network.latency
            row: Row = {"part": "proposal", "blocks": number, "share": share, "val": -1.0, "kept": None}
            try:
                found = best_filters(sized, self.task, "resnet56")
            except ValueError as error:
                self.rows.add(row | {"refused": str(error)})
                continue
            kept = ["".join(map(str, mask.astype(int))) for mask in found.masks]
            row |= {"val": found.outcome.accuracy, "decider": found.decider, "kept": kept}
            self.rows.add(row)

    def _dense_ms(self) -> float:
        """Return the latency of the dense network, which tables of those without blocks are scaled by."""
        row = self.rows.find(part="dense_ms")
        if row is None:
            (ms,) = fastest([self.model], self.example[:1], rounds=200)
            row = {"part": "dense_ms", "ms": ms}
            self.rows.add(row)
        self.sizes.dense_ms = row["ms"]
        return float(row["ms"])

    def _alone(self, share: float) -> Row:
        """Find the fewest blocks without which the network has a share of the latency."""
        latencies = self._order()["latencies"]
        number = next((k for k, latency in enumerate(latencies) if latency <= share), len(latencies) - 1)
        return {"blocks": number, "kept": None, "decider": "", "val": None}

    def _recover(self, way: str, share: float, chosen: Row) -> None:
        """Cut, measure, train for a moment, and measure again."""
        if self.rows.find(part="accuracy", way=way, share=share):
            return
        dropped = self._without(chosen["blocks"])
        model = dropped.model
        if chosen["kept"] is not None:
            network = trace_exactly(model, self.example) if dropped.blocks else self.sizes.dense
            problem = PruningProblem.build("resnet56", model, self.task, network=network, images=64)
            masks = [np.array([each == "1" for each in mask]) for mask in chosen["kept"]]
            model = problem.cut(PruningPlan.from_masks(network, masks))
        reestimate_batchnorm(model, self.task, images=512)
        row: Row = {"part": "accuracy", "way": way, "share": share, "blocks": chosen["blocks"]}
        row |= {"decider": chosen["decider"], "latency": _latency(self.model, model, self.example)}
        row["before"] = measure(model, self.task, "test", limit=MOST_TEST).accuracy
        begun = time.process_time()
        finetune(model, self.task, shortened(RECOVERY), steps=STEPS)
        reestimate_batchnorm(model, self.task, images=512)
        row["after"] = measure(model, self.task, "test", limit=MOST_TEST).accuracy
        traced, dense = trace(model, self.example), self.sizes.dense
        row["macs"] = float(traced.macs(traced.widths)) / float(dense.macs(dense.widths))
        self.rows.add(row | {"seconds": round(time.process_time() - begun)})


def _latency(dense: nn.Module, smaller: nn.Module, example: torch.Tensor) -> float:
    """Return the latency at batch 1 as a share of the dense network's, both timed in turns."""
    one, other = fastest([dense, smaller], example[:1], rounds=60)
    return other / one


def fastest(models: Sequence[nn.Module], example: torch.Tensor, rounds: int) -> list[float]:
    """Return milliseconds of the processor in the fastest pass of each network, which take turns.

    The time of the thread leaves out that of other processes, which the clock on the wall does not.

    Args:
        models: The networks.
        example: A batch.
        rounds: Timed passes of each.
    """
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for number in range(rounds + 2):
            for own, model in zip(times, models, strict=True):
                begun = time.thread_time()
                model.eval()(example)
                if number >= 2:  # the first passes choose kernels and allocate memory
                    own.append(1000 * (time.thread_time() - begun))
    return [min(own) for own in times]


def by_processor(
    models: Sequence[nn.Module], example: torch.Tensor, *, seconds: float = 0.5, threads: int | None = None
) -> list[Timing]:
    """Time passes as :func:`secateur.envs.cost.timer.time_passes` does, by the time of the thread."""
    assert threads == 1
    begun, found = time.thread_time(), [math.inf] * len(models)
    while time.thread_time() - begun < seconds * len(models):
        found = [min(pair) for pair in zip(found, fastest(models, example, rounds=5), strict=True)]
    return [Timing(len(example), ms, (ms, ms, ms), busy=False) for ms in found]


def measure_resnet50(rows: Rows) -> None:
    """Time ResNet-50 without blocks, and with fewer filters at the same MACs."""
    example = torch.zeros(2, 3, 224, 224)
    model = get_model("resnet50", num_classes=1000, in_channels=3).eval()
    calls = as_calls(torch.zeros(2, 3, 64, 64))
    network = trace(model, example)
    dense = float(network.macs(network.widths))
    names = [block.name for block in find_blocks(model, calls[0]) if "." not in block.name.partition(".")[2]]
    for number in range(2, len(names) + 1, 2):
        if rows.find(part="latency", blocks=number):
            continue
        # From each stage in turn, the last block first.
        chosen = _in_turn(names)[:number]
        without = remove_blocks(model, chosen, calls[0]).eval()
        traced = trace(without, example)
        share = float(traced.macs(traced.widths)) / dense
        narrower = cut_to(model, network, _counts(network, share * dense)).eval()
        whole, blocks, filters = fastest([model, without, narrower], example[:1], rounds=25)
        rows.add(
            {
                "part": "latency", "blocks": number, "macs": share, "dense_ms": whole,
                "by_blocks": blocks / whole, "by_filters": filters / whole,
            }
        )  # fmt: skip


def _in_turn(names: list[str]) -> list[str]:
    stages: dict[str, list[str]] = {}
    for name in names:
        stages.setdefault(name.partition(".")[0], []).append(name)
    ordered = []
    while any(stages.values()):
        ordered += [stage.pop() for stage in stages.values() if stage]
    return ordered


def _counts(network: Any, macs: float) -> Any:
    """Return even counts of filters, in multiples of 8, with about as many MACs."""
    ratios = np.linspace(0.02, 1, 400)
    counts = [np.maximum(8, np.round(network.widths * ratio / 8) * 8).astype(int) for ratio in ratios]
    counts = [np.minimum(each, network.widths) for each in counts]
    return min(counts, key=lambda each: abs(float(network.macs(each)) - macs))


def print_table(rows: list[Row]) -> None:
    """Print both tables."""
    print("| latency of dense | way | blocks that go | MACs | measured latency | test before | test after |")
    print("|---|---|---|---|---|---|---|")
    for row in _sorted(rows):
        print(
            f"| {row['share']:.0%} | {row['way']} | {row['blocks']} | {row['macs']:.1%} "
            f"| {row['latency']:.1%} | {row['before']:.2f} % | {row['after']:.2f} % |"
        )
    print("\n| blocks that go | MACs | latency by blocks | by filters |\n|---|---|---|---|")
    for row in rows:
        if row["part"] == "latency":
            ratios = (row["macs"], row["by_blocks"], row["by_filters"])
            print(f"| {row['blocks']} | {' | '.join(f'{ratio:.1%}' for ratio in ratios)} |")


def _sorted(rows: list[Row]) -> Iterator[Row]:
    ways = ("filters", "blocks", "both")
    found = [row for row in rows if row["part"] == "accuracy" and row["way"] in ways]
    yield from sorted(found, key=lambda row: (-row["share"], ways.index(row["way"])))


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10, for the part accuracy")
    parser.add_argument("--weights", type=Path, help="checkpoint of ResNet-56, for the part accuracy")
    parser.add_argument(
        "--parts", nargs="+", choices=("accuracy", "latency"), default=["accuracy", "latency"]
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="no row begins after this time")
    parser.add_argument("--json", type=Path, required=True, help="JSON file of rows to read and extend")
    args = parser.parse_args()
    torch.set_num_threads(1)
    timer.time_passes = by_processor  # the tables of latencies, too, do without an idle machine
    rows = Rows(args.json, time.monotonic() + 60 * args.minutes)
    if "latency" in args.parts:
        measure_resnet50(rows)
    if "accuracy" in args.parts:
        task = load_task(DataConfig(data=str(args.data), augment="flip-crop", val_from="test"), seed=0)
        Accuracy(rows, task, args.weights).measure()
    print_table(rows.rows)


if __name__ == "__main__":
    main()
