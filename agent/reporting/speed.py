"""The speed of networks: latency of a pass, and throughput of large batches."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.cost.timer import compare_speed, compare_throughput
from ...envs.io.untrusted import first_line
from ...envs.modules.ranks import first_decides
from ...envs.tasks import Task

Speeds: TypeAlias = tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...]]

_REASON = 300
"""Characters of the reason that a note gives."""

_UNDEFINED = {
    "latency_ms": math.nan,
    "latency_spread_ms": [math.nan, math.nan],
    "images_per_second": math.nan,
    "images_per_second_spread": [math.nan, math.nan],
}


def measure_speeds(models: Sequence[nn.Module], task: Task, config: LatencyConfig) -> Speeds:
    """Time networks, whose passes alternate; on the first of several ranks, while the others wait.

    Args:
        models: The networks.
        task: Gives the shape of the inputs.
        config: Settings of latency measurements; those of throughput have a batch of their own.

    Returns:
        For each network the medians ``latency_ms`` and ``images_per_second``, and
        their quartiles ``latency_spread_ms`` and ``images_per_second_spread``. Then the settings ``latency``
        and ``throughput``, with ``busy``: whether other work disturbed the measurement. Then notes: a network
        that cannot be timed has undefined times, as what a run has computed is worth more than its times.
    """
    return first_decides(lambda: _measure(models, task, config))


def _measure(models: Sequence[nn.Module], task: Task, config: LatencyConfig) -> Speeds:
    try:
        return *_timed(models, task, config), ()
    except Exception as error:  # the network's code may raise anything, and the memory run out
        if len(models) == 1:
            settings = {**asdict(config), "device": _device(models[0], config), "busy": False}
            note = f"The network cannot be timed: {first_line(error, _REASON)}."
            return [_UNDEFINED], {"latency": settings, "throughput": settings}, (note,)
    alone = [_measure((model,), task, config) for model in models]
    notes = dict.fromkeys(note for _, _, notes in alone for note in notes)
    return [row for (row,), _, _ in alone], alone[0][1], tuple(notes)


def _timed(
    models: Sequence[nn.Module], task: Task, config: LatencyConfig
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    shape = task.input_shape
    latencies = compare_speed(models, shape, config)
    throughputs = compare_throughput(models, shape, config, getattr(task, "largest_batch", None))
    rows = [
        {
            "latency_ms": latency.median_ms,
            "latency_spread_ms": [latency.quartiles_ms[0], latency.quartiles_ms[2]],
            "images_per_second": throughput.images_per_second,
            "images_per_second_spread": [
                1000 * throughput.batch / ms for ms in throughput.quartiles_ms[::-2]
            ],
        }
        for latency, throughput in zip(latencies, throughputs, strict=True)
    ]
    settings = {
        name: {
            **asdict(config),
            "batch": timings[0].batch,
            "device": _device(models[0], config),
            "busy": any(timing.busy for timing in timings),
        }
        for name, timings in (("latency", latencies), ("throughput", throughputs))
    }
    return rows, settings


def _device(model: nn.Module, config: LatencyConfig) -> str:
    return config.device or next(model.parameters()).device.type
