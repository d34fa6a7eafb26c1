"""The examples run as they are, with fewer epochs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from secateur.agent.cli import main
from support.pages import PAGES, ROOT, snippet
from support.user import make_user

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)


def example(name: str) -> ModuleType:
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.mark.slow
def test_a_network_is_cut_between_two_plain_training_loops(capsys: pytest.CaptureFixture[str]) -> None:
    module = example("plain_torch")
    smaller = module.main(["--epochs", "6"])
    assert sum(p.numel() for p in smaller.parameters()) < 0.7 * sum(
        p.numel() for p in module.Network().parameters()
    )
    dense, pruned = (
        float(share) for share in re.findall(r"(?:dense|pruned): +([\d.]+) %", capsys.readouterr().out)
    )
    assert pruned > dense - 5 > 80


@pytest.mark.slow
def test_a_regression_is_pruned_and_a_finished_run_is_loaded(tmp_path: Path) -> None:
    module = example("own_task")
    arguments = ["--epochs", "3", "--out", str(tmp_path / "run")]
    first = module.main(arguments)
    written = (tmp_path / "run" / "report.json").stat().st_mtime_ns
    assert first > 70
    assert module.main(arguments) == first
    assert (tmp_path / "run" / "report.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_lightning_recovers_a_cut_network() -> None:
    pytest.importorskip("lightning")
    assert example("lightning_recovery").main(["--epochs", "6"]) > 80


@pytest.mark.slow
def test_the_backbone_of_an_ultralytics_detector_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ultralytics")
    example("ultralytics_backbone").main([])
    before, after = re.findall(r"([\d,]+) (?:before|after)", capsys.readouterr().out)
    assert int(after.replace(",", "")) < 0.9 * int(before.replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package"), [("torchvision_detector", "torchvision"), ("ultralytics_detector", "ultralytics")]
)
def test_a_whole_detector_is_pruned_and_recovered(name: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    arguments = ["--epochs", "4", "--images", "48", "--out", str(tmp_path / "run")]
    report = example(name).main(arguments)
    assert report["ratios"]["macs"] < 0.55
    assert report["recovery"]["losses"][-1] < report["recovery"]["losses"][0]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run_in_order(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), namespace)
    assert "of the dense network" in capsys.readouterr().out
    assert Path("runs", "notebook", "report.html").is_file()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs(notebook: Path) -> None:
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [cell["source"] for cell in cells if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
def test_the_page_says_how_onnxruntime_runs_an_exported_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    make_user(tmp_path / "user")
    monkeypatch.chdir(tmp_path / "user")
    monkeypatch.syspath_prepend(tmp_path / "user")
    prune = "prune mypackage.nets:build --weights mine.pt --data my-images --effort quick --epochs 0 --out"
    assert main([*prune.split(), "runs/my-run"]) == 0
    assert main(["export", "runs/my-run", "--format", "onnx"]) == 0
    namespace: dict[str, Any] = {}
    exec(snippet('onnxruntime.InferenceSession("runs/my-run'), namespace)
    assert namespace["scores"].shape == (4, 2)


def test_each_example_is_on_a_page() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    assert [name for name in files if f"]({name})" not in page] == []
    assert any("examples" in page.read_text(encoding="utf-8") for page in PAGES)
