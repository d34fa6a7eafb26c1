"""The published tables: rows of earlier machines stay, and pages show what the JSON files hold."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))  # for its neighbours
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cifar10() -> ModuleType:
    return script("cifar10")


def test_rows_are_kept_and_known_by_what_was_run(cifar10: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    run = cifar10.Run(cifar10.SETTINGS[0], "ppo", "0", "0")
    here = Namespace(weights={"resnet20": "elsewhere/resnet20.safetensors"})
    table = cifar10.Table(file)
    assert not table.holds(run, here)
    table.add(cifar10.identity(run, here) | {"accuracy": 80.0})
    table.add(None)  # there was no time

    later = cifar10.Table(file)
    assert len(later.rows) == 1
    assert later.holds(run, Namespace(weights={"resnet20": "resnet20.safetensors"}))
    assert not later.holds(run, Namespace(weights={"resnet20": "other.safetensors"}))
    for other in (("ppo", "1", "0"), ("ppo", "0", "10"), ("fpgm-global", "0", "0")):
        assert not later.holds(cifar10.Run(cifar10.SETTINGS[0], *other), here)


def test_each_published_row_is_there_once_and_of_a_run_that_is_planned(cifar10: ModuleType) -> None:
    rows = json.loads((BENCHMARKS / "cifar10.json").read_text())
    keys = ("model", "weights", "wish", "method", "seed", "epochs")
    identities = [tuple(row[key] for key in keys) for row in rows]
    assert len(set(identities)) == len(rows)

    weights = {row["model"]: row["weights"] for row in rows}
    for epochs in {row["epochs"] for row in rows}:
        asked = Namespace(
            weights=weights,
            seeds=["0", "1", "2"],
            epochs=str(epochs),
            recipe="",
            targets=None,
            methods=cifar10.ALL_METHODS,
        )
        planned = [cifar10.identity(run, asked) for run in cifar10.planned(asked, recovered=epochs > 0)]
        of_epochs = [{key: row[key] for key in keys} for row in rows if row["epochs"] == epochs]
        assert all(identity in planned for identity in of_epochs)


@pytest.mark.parametrize(("name", "rows"), [("coverage", "coverage.json"), ("trace_cost", "trace-cost.json")])
def test_the_page_of_coverage_shows_the_rows(name: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # scripts import each other
    module = script(name)
    shown = module.table([module.Row(**row) for row in json.loads((BENCHMARKS / rows).read_text())])
    assert shown in (BENCHMARKS.parent / "docs" / "results" / "coverage.md").read_text()
