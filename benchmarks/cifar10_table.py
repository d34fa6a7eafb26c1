"""Rows of ``cifar10.py`` as a Markdown table, and the filters of a run as a picture."""

import json
import statistics
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from secateur.envs.environment.rendering import figure_of_counts


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table with mean and standard deviation over seeds."""
    print(
        "\n| network | wanted | dense, % | method | epochs | recipe | before, % | after, % | MACs left "
        "| parameters left | candidates | search, s | recovery, s | seeds | published | device |"
    )
    print("|---" * 16 + "|")
    before = {key: list(group) for key, group in grouped(rows) if not key[-1]}
    for key, group in grouped(rows):
        row = group[0]
        start = [
            each for each in before.get((*key[:3], "", 0), []) if each["seed"] in {r["seed"] for r in group}
        ]
        print(
            f"| {row['model'].split(':')[-1]} | `{row['wish']}` | {row['dense_accuracy']:.2f} "
            f"| {row['method']} | {row['epochs']} | {row.get('recipe', '')} | {spread(start)} "
            f"| {spread(group) if row['epochs'] else ''} | {mean(group, 'macs_ratio'):.1%} "
            f"| {mean(group, 'params_ratio'):.1%} | {mean(group, 'evaluations'):.0f} "
            f"| {mean(group, 'search_seconds'):.0f} | {mean(group, 'recovery_seconds'):.0f} | {len(group)} "
            f"| {row['published'] if row['epochs'] else ''} "
            f"| {', '.join(sorted({each['device'] for each in group}))} |"
        )


def grouped(rows: list[dict[str, Any]]) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Group rows that differ in the seed alone, by network and weights, target, method, recipe, epochs."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        network = (row["model"], row["weights"])
        return network, row["wish"], row["method"], row.get("recipe", ""), row["epochs"]

    for kind, group in groupby(sorted(rows, key=key), key=key):
        yield kind, list(group)


def spread(rows: list[dict[str, Any]]) -> str:
    """Format the mean accuracy and its standard deviation."""
    accuracies = [row["accuracy"] for row in rows]
    if len(rows) < 2:
        return "".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Return the mean of a column."""
    return statistics.mean(row[key] for row in rows)


def draw(run_folder: Path, picture: Path) -> None:
    """Draw the filters of each layer that a run kept."""
    report = json.loads((run_folder / "report.json").read_text())
    names, filters, kept = ([layer[key] for layer in report["layers"]] for key in ("name", "filters", "kept"))
    title = f"{report['model']} pruned to {report['ratios']['macs']:.0%} of its MACs"
    figure_of_counts(names, filters, kept, title).savefig(picture, dpi=120)
