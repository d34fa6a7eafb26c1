"""The runs in a folder and their states, read from their files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ...envs.io.run_files import AGENT_CARD, COMPARISON, CONFIG, REPORT
from ...envs.io.untrusted import parse_json, read_text
from ..procedures.options import DEFAULT_TARGET
from ..run.flat_options import read_flat
from ..run.locks import is_locked

State = Literal["finished", "running", "unfinished", "damaged"]

TRAIN = "train"
"""The method of runs that train an agent for use without further training."""

COMPARE = "compare"
"""The method of comparisons of several systems."""


@dataclass(frozen=True)
class Run:
    """Options and results of a run; None if unknown.

    Args:
        folder: Path of the run folder.
        state: Damaged means that ``config.yaml`` or ``report.json`` cannot be read.
        began: Time when ``config.yaml`` was written, local time, ISO 8601.
        model: Network, as on the command line.
        data: Data set, as on the command line.
        method: Method that chose the filters; ``train`` for runs that train an agent, ``compare`` for those
            that compare several.
        target: Target or drop bound, in words.
        macs_ratio: MACs, pruned / dense, in [0, 1].
        accuracy_dense: Accuracy of the dense network on test, percent.
        accuracy_pruned: Accuracy of the pruned network on test, percent.
    """

    folder: str
    state: State
    began: str
    model: str | None = None
    data: str | None = None
    method: str | None = None
    target: str | None = None
    macs_ratio: float | None = None
    accuracy_dense: float | None = None
    accuracy_pruned: float | None = None


def find_runs(folder: Path) -> list[Run]:
    """List the runs in a folder and its subfolders, the oldest first.

    Args:
        folder: Folder of several runs, or of one.

    Raises:
        ValueError: If there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give the folder that contains the runs")
    return sorted((_describe(path) for path in _folders(folder)), key=lambda run: (run.began, run.folder))


def _folders(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        if CONFIG in files or REPORT in files:
            if not _is_comparison(Path(path)):
                below.clear()  # a run holds no other runs
            yield Path(path)


def _is_comparison(folder: Path) -> bool:
    """Return whether a folder is that of a comparison, whose members have folders below it."""
    try:
        return "methods" in read_flat(folder / CONFIG)
    except (OSError, ValueError):
        return False


def _describe(folder: Path) -> Run:
    began = _began(folder)
    try:
        config, report = folder / CONFIG, folder / REPORT
        options = _options(read_flat(config) if config.exists() else {})
        result = _result(parse_json(read_text(report)) if report.exists() else {})
    except (AttributeError, LookupError, OSError, TypeError, ValueError):
        return Run(str(folder), "damaged", began)
    return Run(str(folder), _state(folder, options), began, **options | result)


def _state(folder: Path, options: dict[str, Any]) -> State:
    last = {TRAIN: AGENT_CARD, COMPARE: COMPARISON}.get(str(options.get("method")), REPORT)
    if (folder / last).is_file():
        return "finished"
    return "running" if is_locked(folder) else "unfinished"


def _began(folder: Path) -> str:
    path = next((path for path in (folder / CONFIG, folder / REPORT) if path.exists()), folder)
    return datetime.fromtimestamp(path.stat().st_mtime).isoformat(timespec="seconds")


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`Run` that are in ``config.yaml``."""
    if not config:
        return {}
    is_training = "models" in config
    model = ", ".join(config["models"]) if is_training else config["model"]
    return {
        "model": _text(model),
        "data": _text(config["data"]),
        "method": _method(config, is_training),
        "target": _target(config, is_training),
    }


def _method(config: dict[str, Any], is_training: bool) -> str:
    if is_training:
        return TRAIN
    return COMPARE if "methods" in config else _text(config.get("system", config["method"]))


def _target(config: dict[str, Any], is_training: bool) -> str:
    if "targets" in config:
        return f"{', '.join(f'{100 * float(target):.4g}' for target in config['targets'])} % of the MACs"
    if config.get("drop_bound") is not None:
        return f"drop of {float(config['drop_bound']):g} points"
    if config.get("target_latency") is not None:
        return f"{float(config['target_latency']):g} ms"
    if config.get("target_macs") is None and is_training:
        return "any size"
    macs = config.get("target_macs")
    return f"{100 * (DEFAULT_TARGET if macs is None else float(macs)):.4g} % of the MACs"


def _result(report: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`Run` that are in ``report.json``."""
    if not report:
        return {}
    return {
        "model": _text(report["model"]),
        "data": _text(report["data"]),
        "method": _text(report["method"]),
        "macs_ratio": float(report["ratios"]["macs"]),
        "accuracy_dense": float(report["dense"]["accuracy"]),
        "accuracy_pruned": float(report["pruned"]["accuracy"]),
        **_target_of_weights(report.get("system")),
    }


def _target_of_weights(system: dict[str, Any] | None) -> dict[str, str]:
    """Return the target of a system that removes single weights."""
    if system is None or system["kind"] != "weights":
        return {}
    return {"target": f"{100 * float(system['target']):.4g} % of the weights"}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a string")
    return value
