"""The numbers of a comparison: a row for each run, and a row for each system and size over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = (
    "accuracy",
    "accuracy_drop",
    "loss",
    "macs_ratio",
    "params_ratio",
    "nonzero",
    "latency_ratio",
    "file_ratio",
    "epochs",
    "seconds",
)
"""Numbers of which the table has mean and deviation over the seeds."""


def member_row(
    what: Mapping[str, Any], folder: str, report: Mapping[str, Any] | None, failed: str
) -> dict[str, Any]:
    """Return the row of one run.

    Args:
        what: ``method``, ``kind``, ``target`` and ``seed``.
        folder: Name of its folder.
        report: Its report; None if it failed.
        failed: Why it failed; "" if it did not.

    Returns:
        ``what``, ``folder``, ``failed``, and unless it failed the :data:`FIGURES`: accuracies in percent or
        points on test, ratios of the dense network's, ``nonzero`` the share of the network's own weights,
        ``epochs`` the passes over the training images, ``seconds`` of its run; ``accuracy_drop_interval``,
        ``latency_ms``, ``latency_busy``, ``file_bytes``, ``not_loadable`` and ``notes``.
    """
    row: dict[str, Any] = {**what, "folder": folder, "failed": failed}
    if report is None:
        return row
    pruned, ratios, own = report["pruned"], report["ratios"], report["system"]
    return row | {
        "accuracy": pruned["accuracy"],
        "accuracy_drop": report["accuracy_drop"],
        "accuracy_drop_interval": report["accuracy_drop_interval"],
        "loss": pruned["loss"],
        "macs_ratio": ratios["macs"],
        "params_ratio": ratios["params"],
        "nonzero": own["nonzero"],
        "latency_ratio": ratios["latency_ms"],
        "latency_ms": pruned["latency_ms"],
        "latency_busy": report["latency"]["busy"],
        "file_bytes": pruned["file_bytes"],
        "file_ratio": ratios["file_bytes"],
        "epochs": own["epochs"],
        "seconds": own["seconds"],
        "not_loadable": own["not_loadable"],
        "notes": own["notes"],
    }


def table_rows(members: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each system and size, with the mean and the standard deviation over its seeds.

    Args:
        members: Rows of :func:`member_row`.

    Returns:
        Rows with ``method``, ``kind``, ``target``, ``seeds`` (how many did not fail), ``failed`` (the first
        reason, "" if none did), and each of the :data:`FIGURES` as ``mean`` and ``deviation``; None where
        there is none, as a deviation of one seed.
    """
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for member in members:
        groups.setdefault((member["method"], member["target"]), []).append(member)
    rows = []
    for (method, target), group in groups.items():
        good = [member for member in group if not member["failed"]]
        reasons = [member["failed"] for member in group if member["failed"]]
        rows.append(
            {
                "method": method,
                "kind": group[0]["kind"],
                "target": target,
                "seeds": len(good),
                "failed": reasons[0] if reasons else "",
                **{name: _spread([member[name] for member in good]) for name in FIGURES},
            }
        )
    return rows


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "deviation": None}
    return {
        "mean": statistics.fmean(known),
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
    }
