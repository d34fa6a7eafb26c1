"""What a reader has to know beside a number: improbable gains, no gain, and disturbed clocks."""

from typing import Any

HARDLY_FASTER = 0.95
"""Time of the pruned network, relative to the dense one, from which on it is called not faster."""

_OVERHEAD = 2.0
"""Time for one image in a latency pass, relative to that in a large batch, from which on most of the pass is
overhead."""


def remarks(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return the remarks on a report.

    Args:
        report: A report with all measurements.

    Returns:
        Entries with ``about``, the key of the number in ``dense`` and ``pruned``, and ``text``.
    """
    texts = {
        "accuracy": _on_accuracy(report["accuracy_drop_interval"]),
        "images_per_second": _on_throughput(report),
        "latency_ms": _on_latency(report),
    }
    return [{"about": about, "text": text} for about, text in texts.items() if text]


def _on_accuracy(drop_interval: list[float] | None) -> str:
    if drop_interval is None or drop_interval[1] >= 0:
        return ""
    return (
        "The pruned network is significantly better than the dense one, which removing filters does not "
        "explain. Usual causes: images are not normalised as in the dense network's training "
        "(--normalisation); it was not trained to the end, and fine-tuning went on; or images of test are "
        "among those of train."
    )


def _on_throughput(report: dict[str, Any]) -> str:
    advice = (
        "Smaller is not faster here. Try --round-to 8 or 16, as kernels are made for such numbers of "
        "filters, or --target-latency, which prunes for time instead of MACs."
    )
    return _joined(advice if _is_slow(report) else "", _on_busy(report["throughput"]))


def _on_latency(report: dict[str, Any]) -> str:
    latency, dense = report["latency"], report["dense"]
    text = ""
    if report["ratios"]["latency_ms"] > HARDLY_FASTER:
        text = f"Smaller is not faster at a batch of {latency['batch']}."
        per_image = dense["latency_ms"] / latency["batch"]
        if per_image > _OVERHEAD * 1000 / dense["images_per_second"]:
            text += (
                " Most of such a pass is spent on starting operations, not on arithmetic: larger batches, "
                "torch.compile and onnxruntime spend less."
            )
        elif not _is_slow(report):
            text += " Try --target-latency, which prunes for the time of such a batch."
    return _joined(text, _on_busy(latency))


def _is_slow(report: dict[str, Any]) -> bool:
    return bool(report["ratios"]["images_per_second"] < 1 / HARDLY_FASTER)


def _on_busy(settings: dict[str, Any]) -> str:
    if not settings["busy"]:
        return ""
    return (
        "The machine was busy with other work during this measurement, so the numbers are uncertain; "
        "secateur evaluate measures again."
    )


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
