"""What a reader has to know beside a number: improbable gains, no gain, and disturbed clocks."""

from typing import Any

HARDLY_FASTER = 0.95
"""Time of the pruned network, relative to the dense one, from which on it is called not faster."""

_OVERHEAD = 2.0
"""Time for one image in a latency pass, relative to that in a large batch, from which on most of the pass is
overhead."""

_SLOW = (
    "Smaller is not faster here. Try --round-to 8 or 16, as kernels are made for such numbers of filters, or "
    "--target-latency, which prunes for time instead of MACs."
)

_INEXACT = (
    "Normalisations average over fewer channels than in the dense network, as --allow-inexact layernorm "
    "allows; all else of the cut is exact."
)

_BUSY = (
    "The machine was busy with other work during this measurement, so the numbers are uncertain; "
    "secateur evaluate measures again."
)


def remarks(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return the remarks on a report.

    Args:
        report: A report with all measurements.

    Returns:
        Entries with ``about``, the key of a number in ``dense`` and ``pruned``, and ``text``. A number may
        have several, and a text may be about several numbers.
    """
    pairs = [
        ("accuracy", _on_accuracy(report["accuracy_drop_interval"])),
        ("accuracy", _INEXACT if report.get("inexact") else ""),
        ("images_per_second", _SLOW if _is_slow(report) else ""),
        ("images_per_second", _BUSY if report["throughput"]["busy"] else ""),
        ("latency_ms", _on_latency(report)),
        ("latency_ms", _BUSY if report["latency"]["busy"] else ""),
    ]
    return [{"about": about, "text": text} for about, text in pairs if text]


def _on_accuracy(drop_interval: list[float] | None) -> str:
    if drop_interval is None or drop_interval[1] >= 0:
        return ""
    return (
        "The pruned network is significantly better than the dense one, which removing filters does not "
        "explain. Usual causes: images are not normalised as in the dense network's training "
        "(--normalisation); its batch-norm statistics did not fit, and were estimated anew; it was not "
        "trained to the end, and fine-tuning went on; or images of test are among those of train."
    )


def _on_latency(report: dict[str, Any]) -> str:
    batch, dense = report["latency"]["batch"], report["dense"]
    if report["ratios"]["macs"] == 1 or not report["ratios"]["latency_ms"] > HARDLY_FASTER:  # also undefined
        return ""
    text = f"Smaller is not faster at a batch of {batch}."
    if dense["latency_ms"] / batch > _OVERHEAD * 1000 / dense["images_per_second"]:
        return text + (
            " Most of such a pass is spent on starting operations, not on arithmetic: larger batches, "
            "torch.compile and onnxruntime spend less."
        )
    return (
        text
        if _is_slow(report)
        else f"{text} Try --target-latency, which prunes for the time of such a batch."
    )


def _is_slow(report: dict[str, Any]) -> bool:
    ratios = report["ratios"]
    return bool(ratios["macs"] != 1 and ratios["images_per_second"] < 1 / HARDLY_FASTER)
