"""What the numbers of a comparison do not say, in sentences, from the kinds of systems that take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...envs.io.wording import counted
from .formatting import percent

_BY_KIND = {
    "weights": (
        "{names}: zeros among the weights make the file smaller and save no time on usual hardware, which "
        "computes with them. Sparsity is not MACs: the target is the share of the weights that stays, and "
        "the MACs are those of the dense network."
    ),
    "rank": (
        "{names}: a layer of low rank is two smaller ones, whose MACs are added up. "
        "One operation becomes two, so equal MACs are often slower than with fewer filters."
    ),
    "blocks": (
        "{names}: a block goes as a whole, with its operations; where one goes, equal MACs are often faster "
        "than with fewer filters."
    ),
    "int8": (
        "{names}: the MACs are computed with integers; they are cheaper, not fewer. Accuracy and file are "
        "those of int8, the file without the graph; the latency is that of the network in float, and in a "
        "runtime for integers another."
    ),
}
"""What is particular about each kind; filters are what the others are compared with."""

_ANEW = (
    "{names}: the training begins with random weights, not with those of the dense network, and few "
    "passes are less for it than for the others."
)

_TICKETS = ("lottery", "lottery-rewinding", "lottery-filters")
"""Systems of another kind than ``width`` that begin with random weights."""

_FREE = 0.03
"""Share of the MACs by which a target may be missed without a sentence: layers have whole filters."""


def sentences(
    rows: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]], epochs: float
) -> list[str]:
    """Return what is not comparable.

    Args:
        rows: The table; see :func:`.comparison_rows.table_rows`.
        members: The runs.
        epochs: Passes over the training images that each system may spend.
    """
    found = []
    done = [row for row in rows if row["seeds"]]
    for kind, text in _BY_KIND.items():
        if names := _names(row for row in done if row["kind"] == kind):
            found.append(text.format(names=names))
    if names := _names(row for row in done if row["kind"] == "width" or row["method"] in _TICKETS):
        found.append(_ANEW.format(names=names))
    for row in done:
        macs, target = row["macs_ratio"]["mean"], row["target"]
        if row["kind"] in ("weights", "int8") or macs is None or abs(macs - target) <= _FREE:
            continue
        found.append(
            f"{row['method']} has {percent(macs)} of the MACs where {percent(target)} was the target."
        )
    spent: dict[float, set[str]] = {}
    for row in done:
        if row["epochs"]["mean"] is not None and abs(row["epochs"]["mean"] - epochs) > 1e-6:
            spent.setdefault(float(f"{row['epochs']['mean']:.3g}"), set()).add(row["method"])
    found += [
        f"{', '.join(sorted(methods))} spent {counted(passes, 'pass', 'passes')} over the training "
        f"images, of {epochs:g}."
        for passes, methods in spent.items()
    ]
    busy = sorted({member["method"] for member in members if member.get("latency_busy")})
    if busy:
        found.append(
            "The machine was busy while these were timed, so their latencies are uncertain: "
            f"{', '.join(busy)}."
        )
    if all(row["seeds"] <= 1 for row in done):
        found.append("Each system has one seed: small differences may be chance, see the intervals.")
    return found


def _names(rows: Any) -> str:
    return ", ".join(dict.fromkeys(row["method"] for row in rows))
