"""The speed of networks: latency of a pass, and throughput of large batches."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.cost.timer import compare_speed, compare_throughput
from ...envs.modules.ranks import first_decides
from ...envs.tasks import Task


def measure_speeds(
    models: Sequence[nn.Module], task: Task, config: LatencyConfig
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time networks, whose passes alternate; on the first of several ranks, while the others wait.

    Args:
        models: The networks.
        task: Gives the shape of the inputs.
        config: Settings of latency measurements; those of throughput have a batch of their own.

    Returns:
        For each network the medians ``latency_ms`` and ``images_per_second``, and
        their quartiles ``latency_spread_ms`` and ``images_per_second_spread``. Then the settings ``latency``
        and ``throughput``, with ``busy``: whether other work disturbed the measurement.
    """
    return first_decides(lambda: _measure(models, task, config))


def _measure(
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
    device = config.device or next(models[0].parameters()).device.type
    settings = {
        name: {
            **asdict(config),
            "batch": timings[0].batch,
            "device": device,
            "busy": any(timing.busy for timing in timings),
        }
        for name, timings in (("latency", latencies), ("throughput", throughputs))
    }
    return rows, settings
