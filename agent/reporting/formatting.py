"""Formatting of numbers with units and significant digits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UNITS = {"seconds": "s", "accuracy": "%", "drop": "points"}
"""Units by the last word of a value's name."""

_MET = {"yes": "kept", "no": "exceeded", "undecided": "undecided"}


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Args:
        label: Name of the compared quantity.
        dense: Value of the dense network.
        pruned: Value of the pruned network.
        ratio: Pruned / dense, or the difference if a ratio has no meaning.
    """

    label: str
    dense: str
    pruned: str
    ratio: str


def comparison(report: dict[str, Any]) -> list[Row]:
    """Return the rows of the comparison, what a user notices first.

    Args:
        report: As for :func:`secateur.agent.reporting.report.write_report`.
    """
    dense, pruned, ratios = report["dense"], report["pruned"], report["ratios"]
    change = signed(-report["accuracy_drop"], 2) + " points"
    accuracy = _marked(f"test {metric_of(report)}", "accuracy", report)
    loss_change = signed(pruned["loss"] - dense["loss"], 4)
    return [
        Row(accuracy, f"{dense['accuracy']:.2f} %", f"{pruned['accuracy']:.2f} %", change),
        *_int8_rows(report),
        *_accuracy_rows(report),
        *_throughput_rows(report),
        *_file_rows(report),
        Row("MACs", large(dense["macs"]), large(pruned["macs"]), percent(ratios["macs"])),
        Row("parameters", large(dense["params"]), large(pruned["params"]), percent(ratios["params"])),
        *_latency_rows(report),
        *_block_rows(report),
        Row("filters", f"{dense['filters']:,}", f"{pruned['filters']:,}", percent(ratios["filters"])),
        Row("test loss", f"{dense['loss']:.4f}", f"{pruned['loss']:.4f}", loss_change),
        *_before_rows(report),
    ]


def _int8_rows(report: dict[str, Any]) -> list[Row]:
    """Return the row for the network in int8, of runs under quantisation."""
    if "int8" not in report:
        return []
    found = report["int8"]
    change = signed(-found["accuracy_drop"], 2) + " points"
    return [Row(f"test {metric_of(report)}, int8", "", f"{found['accuracy']:.2f} %", change)]


def _throughput_rows(report: dict[str, Any]) -> list[Row]:
    """Return the row for images per second; none for reports of version 0.1."""
    if "throughput" not in report:
        return []
    label = _marked(f"images/s, batch {report['throughput']['batch']}", "images_per_second", report)
    dense, pruned = (
        _timed(f"{row['images_per_second']:,.0f}", row["images_per_second"], row["images_per_second_spread"])
        for row in (report["dense"], report["pruned"])
    )
    gain = report["ratios"]["images_per_second"]
    return [Row(label, dense, pruned, UNDEFINED if math.isnan(gain) else f"{gain:.2f} times")]


def _timed(text: str, median: float, quartiles: Sequence[float] | None) -> str:
    """Add half of the distance of the quartiles in percent of the median, if known; a dash if undefined."""
    if math.isnan(median):
        return UNDEFINED
    if not quartiles:
        return text
    spread = percent((quartiles[1] - quartiles[0]) / 2 / median, 0)
    return f"{text} ±{spread}".replace(" %", "\N{NO-BREAK SPACE}%")


def _file_rows(report: dict[str, Any]) -> list[Row]:
    if "file_bytes" not in report["ratios"]:
        return []
    dense, pruned = (f"{large(report[key]['file_bytes'])}B" for key in ("dense", "pruned"))
    return [Row("file of the weights", dense, pruned, percent(report["ratios"]["file_bytes"]))]


def _block_rows(report: dict[str, Any]) -> list[Row]:
    """Return the row for residual blocks, if any might have gone."""
    blocks = report.get("blocks")
    if not blocks or not blocks["total"]:
        return []
    total, left = blocks["total"], blocks["total"] - len(blocks["dropped"])
    return [Row("residual blocks", str(total), str(left), percent(left / total))]


def _latency_rows(report: dict[str, Any]) -> list[Row]:
    """Return the rows for the latency: measured, predicted, and without rounding."""
    dense, pruned = report["dense"], report["pruned"]
    label = _marked(f"latency, batch {report['latency']['batch']}", "latency_ms", report)
    before, after = (
        _timed(f"{row['latency_ms']:.3g} ms", row["latency_ms"], row.get("latency_spread_ms"))
        for row in (dense, pruned)
    )
    rows = [Row(label, before, after, percent(report["ratios"]["latency_ms"]))]
    if "predicted_latency_ms" in dense:
        first, last = dense["predicted_latency_ms"], pruned["predicted_latency_ms"]
        rows.append(Row("predicted latency", f"{first:.3g} ms", f"{last:.3g} ms", percent(last / first)))
    if unrounded := report.get("unrounded"):
        label = f"latency without rounding, at {percent(unrounded['macs_ratio'])} of the MACs"
        ratio = percent(unrounded["latency_ms"] / dense["latency_ms"])
        before, after = (
            _timed(f"{row['latency_ms']:.3g} ms", row["latency_ms"], None) for row in (dense, unrounded)
        )
        rows.append(Row(label, before, after, ratio))
    return rows


def _before_rows(report: dict[str, Any]) -> list[Row]:
    """Return the rows for accuracies on val: the chosen filters, a heuristic's, and fine-tuning."""
    search, recovery, rows = report["search"], report["recovery"], []
    what = f"val {metric_of(report)}"
    if finalists := search.get("finalists"):
        rows += _finalist_rows(finalists, metric_of(report))
    if best := search.get("best_heuristic"):
        chosen, other = search["val_accuracy"], best["val_accuracy"]
        rows.append(Row(f"{what} as chosen", "", f"{chosen:.2f} %", ""))
        label = f"{what} of the best heuristic at this size, {best['name']}"
        rows.append(Row(label, "", f"{other:.2f} %", f"{signed(other - chosen, 2)} points"))
    if recovery.get("epochs") and recovery.get("val_accuracy_before") is not None:
        before, after = recovery["val_accuracy_before"], recovery["val_accuracy_after"]
        rows.append(Row(f"{what} before tuning", "", f"{before:.2f} %", ""))
        if after is not None:  # the recovery did not train on val
            gained = f"{signed(after - before, 2)} points"
            rows.append(Row(f"{what} after tuning", "", f"{after:.2f} %", gained))
    return rows


def _finalist_rows(finalists: dict[str, Any], metric: str) -> list[Row]:
    """Return the rows for the last rung: the winner, and whom it was compared with."""
    rung, lead = finalists["rungs"][-1], finalists["lead"]
    accuracies = {plan["name"]: plan["accuracy"] for plan in rung["plans"]}
    when = f"after {rung['epochs']:.2g} epochs" if rung["epochs"] else "as cut"
    rows = []
    for name in (finalists["winner"], *([lead["over"]] if lead else ())):
        change = ""
        if name != finalists["winner"] and math.isfinite(points := lead["points"] or math.nan):
            change = f"{signed(-points, 2)} points"
        rows.append(Row(f"{metric} {when}, {name}", "", in_percent(accuracies[name]), change))
    return rows


def lead_of(finalists: dict[str, Any]) -> str:
    """Return who won among the finalists, and by how much against the noise, in a sentence.

    Args:
        finalists: The entry ``search["finalists"]`` of a report.
    """
    winner, lead = finalists["winner"], finalists["lead"]
    if lead is None:
        return f"{winner} is the only finalist"
    points, over, interval = lead["points"], lead["over"], lead["interval"]
    if points is None or not math.isfinite(points):
        return f"{winner} wins: the training of {over} diverged"
    if points < 0 and interval is not None:
        interval = [-interval[1], -interval[0]]  # of the one that leads
    noise = "of a noise that is not known"
    if interval is not None:
        within = "more than" if lead["is_clear"] else "within"
        ends = " to ".join(signed(end, 2) for end in interval)
        noise = f"{within} the noise ({lead['level']:.0%} interval {ends})"
    if points < 0:
        return f"{over} leads {winner} by {-points:.2f} points, {noise}, so the heuristic is cut"
    if points == 0:
        return f"{winner} and {over} are equal"
    return f"{winner} leads {over} by {points:.2f} points, {noise}"


def finalists_table(finalists: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the table of finalists: what each had before and after each rung.

    Args:
        finalists: The entry ``search["finalists"]`` of a report.
    """
    rungs = finalists["rungs"]
    headings = ["finalist", "MACs", "before"]
    headings += [f"after {rung['epochs']:.2g} epochs" if rung["epochs"] else "as cut" for rung in rungs]
    accuracies = [{plan["name"]: plan["accuracy"] for plan in rung["plans"]} for rung in rungs]
    ranked = list(dict.fromkeys(plan["name"] for rung in reversed(rungs) for plan in rung["plans"]))
    plans = {plan["name"]: plan for plan in rungs[0]["plans"]}
    rows = [
        [
            name,
            percent(plans[name]["macs_ratio"]),
            in_percent(plans[name]["accuracy_before"]),
            *(in_percent(rung[name]) if name in rung else "" for rung in accuracies),
        ]
        for name in ranked
    ]
    return headings, rows


def remarks_below(report: dict[str, Any]) -> list[str]:
    """Return what is said below the comparison: how it was timed, and the remarks with their marks."""
    settings = report["latency"]
    threads = "1 thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    timed = f"Timed on {threads} in {settings['dtype']}"
    timed += "; ± is half the distance of the quartiles." if "latency_spread_ms" in report["dense"] else "."
    return [timed, *(f"[{number}] {text}" for number, text in enumerate(_texts(report), 1))]


def _marked(label: str, about: str, report: dict[str, Any]) -> str:
    """Add the numbers of the remarks about a value to its label."""
    texts = _texts(report)
    said = [entry["text"] for entry in report.get("remarks", ()) if entry["about"] == about]
    return " ".join([label, *(f"[{texts.index(text) + 1}]" for text in said)])


def _texts(report: dict[str, Any]) -> list[str]:
    """Return the remarks, each once."""
    return list(dict.fromkeys(entry["text"] for entry in report.get("remarks", ())))


def _accuracy_rows(report: dict[str, Any]) -> list[Row]:
    """Return the rows for the interval of the accuracy change and for the drop bound."""
    rows = []
    if interval := change_interval(report):
        rows.append(Row("its 95 % interval, points", "", "", interval))
    if bound := report.get("drop_bound"):
        rows.append(Row("bound on the drop", "", f"{bound['bound']:g} points", _MET[bound["met"]]))
        rows += _check_rows(bound["on_val"]) if "on_val" in bound else []
    return rows


def _check_rows(check: dict[str, Any]) -> list[Row]:
    """Return the rows for the check of a drop bound on images of val."""
    label = f"on {check['images']:,} {'unseen ' if check['unseen'] else ''}images of val"
    rows = [Row(label, "", f"{signed(-check['drop'], 2)} points", _MET[check["met"]])]
    if interval := check["interval"]:
        ends = f"{signed(-interval[1], 2)} to {signed(-interval[0], 2)}"
        rows.append(Row("its 95 % interval, points", "", "", ends))
    return rows


def change_interval(report: dict[str, Any]) -> str:
    """Format the 95 % interval of the accuracy change, percentage points; "" if there is none."""
    interval = report.get("accuracy_drop_interval")
    return "" if interval is None else f"{signed(-interval[1], 2)} to {signed(-interval[0], 2)}"


def metric_of(report: dict[str, Any]) -> str:
    """Return the name of the accuracy."""
    return str(report.get("metric", "accuracy"))


def details_heading(report: dict[str, Any]) -> str:
    """Return the heading of the table of classes or outputs."""
    return f"test {metric_of(report)} of each{' class' if report.get('classes') else ''}"


def details(report: dict[str, Any]) -> list[Row]:
    """Return a row for each class or output of the task; the last column is the change."""
    rows = []
    for detail in report.get("details", ()):
        dense, pruned = detail["dense"], detail["pruned"]
        change = "" if dense is None or pruned is None else signed(pruned - dense, 2) + " points"
        rows.append(Row(str(detail["name"]), in_percent(dense), in_percent(pruned), change))
    return rows


UNDEFINED = "–"  # noqa: RUF001
"""What stands for a number that is not defined."""


def in_percent(value: float | None) -> str:
    """Format a percentage; the minus is the typographic one, and a dash stands for what is undefined."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return f"{value:.2f} %".replace("-", "−")  # noqa: RUF001


def figures(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers and strings in ``values`` as pairs of label and value with unit."""
    return [
        (key.replace("_", " "), _with_unit(key, value))
        for key, value in values.items()
        if not _is_group(value)
    ]


def large(count: float) -> str:
    """Format a count with three digits and a prefix: ``2.83 M``."""
    if count < 1000:
        return f"{count:g}"
    power = min(4, int(math.log10(count) / 3))
    if round(count / 1000**power, 2) >= 1000 and power < 4:
        power += 1
    return f"{count / 1000**power:.3g} {' kMGT'[power]}"


def percent(ratio: float, digits: int = 1) -> str:
    """Format a ratio as a percentage: ``49.8 %``; a dash if it is undefined."""
    return UNDEFINED if math.isnan(ratio) else f"{ratio:.{digits}%}".replace("%", " %")


def signed(change: float, digits: int) -> str:
    """Format a change with its sign; the minus is the typographic one."""
    return f"{round(change, digits) + 0.0:+.{digits}f}".replace("-", "−")  # noqa: RUF001


def _is_group(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple)) or value is None


def _with_unit(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    unit = _UNITS.get(key.removesuffix("_before").removesuffix("_after").rpartition("_")[2], "")
    digits = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f"{digits} {unit}".rstrip()
