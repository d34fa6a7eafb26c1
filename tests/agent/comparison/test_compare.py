"""Systems beside each other: the same for all, one folder each, one table and one page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import secateur
from secateur.agent.cli import main
from secateur.agent.comparison.all_members import entries_of
from secateur.agent.comparison.front_door import Comparison
from secateur.agent.reporting.comparability import sentences
from secateur.agent.reporting.comparison import comparison_page, markdown
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.tasks import ClassificationTask
from support.command_line import refusal
from support.comparing import (
    LONG,
    NETWORK,
    SMALL,
    Keeps,
    Otherwise,
    Refuses,
    Rounds,
    assert_same_networks,
    content_of,
)
from support.small import plain_network


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of systems, one of which fails and one of which no plan describes."""
    out = tmp_path_factory.mktemp("compare") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        more = {"refuses": Refuses(), "otherwise": Otherwise(), "zeros": Keeps("weights"), "rounds": Rounds()}
        for name, system in more.items():
            patch.setitem(SYSTEMS, name, system)
        words = ["--methods", "agent,l2-uniform", "refuses", "otherwise,zeros,rounds", "--targets", "0.6"]
        assert main([*SMALL, *words, "--seeds", "0", "1", "--out", str(out)]) == 0
    return out


def test_every_run_has_a_row_and_a_folder_that_can_be_used(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row["folder"]: row for row in content_of(whole)["members"]}
    methods = ("agent", "l2-uniform", "refuses", "otherwise", "zeros", "rounds")
    assert list(rows) == [f"{method}-0.6-seed{seed}" for method in methods for seed in (0, 1)]
    for name in ("agent-0.6-seed0", "l2-uniform-0.6-seed1", "zeros-0.6-seed0"):
        row, report = rows[name], json.loads((whole / name / "report.json").read_text())
        assert report["pruned"]["accuracy"] == row["accuracy"]
        assert report["ratios"]["macs"] == row["macs_ratio"]
        assert (whole / name / "model.safetensors").stat().st_size == row["file_bytes"]
        model = secateur.load(plain_network, whole / name)
        assert sum(p.numel() for p in model.parameters()) == report["pruned"]["params"]
        assert main(["evaluate", str(whole / name), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == row["accuracy"]
    assert main(["export", str(whole / name), "--format", "safetensors"]) == 0
    assert main(["report", str(whole / name)]) == 0
    before = (whole / "compare.html").read_bytes()
    assert main(["report", str(whole)]) == 0
    assert (whole / "compare.html").read_bytes() == before
    for verb in ("evaluate", "export"):
        said = f"{whole} is a comparison; give the folder of a run in it"
        assert said in refusal([verb, str(whole)], capsys)
    assert "resume the comparison that this run is part of" in refusal(["resume", str(whole / name)], capsys)
    capsys.readouterr()
    assert main(["runs", str(whole), "--json"]) == 0
    listed = {Path(run["folder"]).name: run for run in json.loads(capsys.readouterr().out)}
    assert listed["whole"]["method"] == "compare"
    assert listed["zeros-0.6-seed1"]["method"] == "zeros"
    assert {run["state"] for run in listed.values()} == {"finished"}


def test_what_fails_says_why_in_one_line_and_leaves_nothing(whole: Path) -> None:
    rows = [row for row in content_of(whole)["members"] if row["method"] == "refuses"]
    assert [row["failed"] for row in rows] == [f"0.6 is out of reach; {LONG}"] * 2
    assert not list(whole.glob("refuses*"))


def test_a_network_without_a_plan_is_measured_too_and_the_page_says_that_it_cannot_be_rebuilt(
    whole: Path,
) -> None:
    row = next(row for row in content_of(whole)["members"] if row["method"] == "otherwise")
    assert row["latency_ratio"] > 0
    assert row["epochs"] == 0.5
    assert "no plan says how to build it" in row["not_loadable"]
    with pytest.raises(ValueError, match=r"plan\.json does not exist"):
        secateur.load(plain_network, whole / row["folder"])
    page = (whole / "compare.html").read_text()
    assert "cannot be rebuilt from its folder" in page
    assert "It is another network." in page
    report = json.loads((whole / row["folder"] / "report.json").read_text())
    assert any("cannot be rebuilt" in note for note in report["splits"]["notes"])


def test_where_another_network_is_stored_the_measured_one_is_that_which_ships(whole: Path) -> None:
    content = content_of(whole)
    row = next(row for row in content["members"] if row["method"] == "rounds")
    assert row["not_loadable"] == ""
    assert row["accuracy"] < content["dense"]["accuracy"]
    assert secateur.load(plain_network, whole / row["folder"]) is not None
    assert "rounds: the MACs are computed with integers" in " ".join(content["not_comparable"])


def test_the_metric_has_its_own_name(whole: Path) -> None:
    content = {**content_of(whole), "metric": "mean IoU"}
    for shown in (comparison_page(content), markdown(content), str(Comparison(content))):
        assert "mean IoU" in shown
        assert "accuracy on test" not in shown
        assert "mean IoU on test and shares in percent" in " ".join(shown.split())
    assert "<th>accuracy</th>" not in comparison_page(content).replace(' scope="col"', "")
    long = markdown({**content, "metric": "mean average precision"})
    assert long.startswith("| system | target | metric | change |")
    assert "mean average precision on test" in long


def test_the_table_is_the_mean_of_the_runs_and_the_page_shows_its_numbers(whole: Path) -> None:
    content = content_of(whole)
    page = (whole / "compare.html").read_text()
    assert "size and 1 pass over the training images each" in page
    for row in content["table"]:
        runs = [run for run in content["members"] if run["method"] == row["method"] and not run["failed"]]
        assert row["seeds"] == len(runs)
        if not runs:
            continue
        accuracies = torch.tensor([run["accuracy"] for run in runs], dtype=torch.float64)
        assert row["accuracy"]["mean"] == pytest.approx(float(accuracies.mean()))
        assert row["accuracy"]["deviation"] == pytest.approx(float(accuracies.std()))
        assert f"{row['accuracy']['mean']:.2f} ±{row['accuracy']['deviation']:.2f}" in page
        drops = [content["dense"]["accuracy"] - run["accuracy"] for run in runs]
        assert row["accuracy_drop"]["mean"] == pytest.approx(sum(drops) / 2)
    assert "<script" not in page
    assert not re.search(r'(src|href)="http', page)
    assert (whole / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_comparable_follows_from_the_systems(whole: Path) -> None:
    said = " ".join(content_of(whole)["not_comparable"])
    assert "zeros: zeros among the weights make the file smaller and save no time" in said
    assert "otherwise: the training begins with random weights" in said
    lottery = {"method": "lottery", "kind": "weights", "seeds": 1, "target": 0.3, "macs_ratio": {"mean": 1.0}}
    anew = sentences([lottery | {"epochs": {"mean": 1.0}}], [], 1)
    assert "lottery: the training begins with random weights" in " ".join(anew)
    assert "otherwise spent 0.5 passes over the training images, of 1" in said
    assert "agent spent" not in said
    assert "one seed" not in said
    assert "low rank" not in said


def test_one_tensorboard_has_all_runs(whole: Path) -> None:
    events = EventAccumulator(str(whole)).Reload()
    assert {"accuracy/agent", "latency_ratio/l2-uniform"} <= set(events.Tags()["scalars"])
    mean = next(row["accuracy"]["mean"] for row in content_of(whole)["table"] if row["method"] == "agent")
    (point,) = events.Scalars("accuracy/agent")
    assert (point.step, point.value) == (60, pytest.approx(mean))
    assert "comparison/text_summary" in events.Tags()["tensors"]
    assert "comparison/accuracy" in events.Tags()["images"]
    of_member = EventAccumulator(str(whole / "l2-uniform-0.6-seed0")).Reload().Tags()["scalars"]
    assert {"recovery/loss", "result/accuracy", "result/file_ratio"} <= set(of_member)


def test_python_compares_too_and_goes_on(
    digit_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"methods": "l2-uniform,dense-tuned", "targets": 0.6, "epochs": 0, "out": tmp_path / "out"}
    found = secateur.compare(plain_network(), digit_task, **options)
    assert [row["method"] for row in found.rows] == ["l2-uniform", "dense-tuned"]
    assert found.rows[1]["macs_ratio"] == 1
    assert max(map(len, str(found).splitlines())) <= 100
    assert "l2-uniform" in str(found)
    assert "; 0 passes each" in str(found)
    monkeypatch.setattr("secateur.agent.comparison.front_door.compare_in", None)
    again = secateur.compare(plain_network(), digit_task, resume=True, **options)
    assert again.content == found.content
    with pytest.raises(ValueError, match="was begun with epochs=0, not 1"):
        secateur.compare(plain_network(), digit_task, resume=True, **options | {"epochs": 1})
    with pytest.raises(ValueError, match="give resume=True"):
        secateur.compare(plain_network(), digit_task, **options)


def test_without_a_filter_that_may_go_the_systems_that_remove_something_else_are_compared(
    digit_task: ClassificationTask,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    methods = ("l2-uniform", "small-dense", "fpgm-int8", "filters-rank", "gradual-filters", "lottery-filters")
    methods += ("dynamic-filters", "agent-blocks", "dense-tuned", "magnitude-global", "rank", "int8")
    found = secateur.compare(model, digit_task, methods=methods, targets=0.5, epochs=0)
    for row in found.rows[:8]:
        assert "can be pruned: the network's output; give a network with a layer before" in row["failed"]
    assert [row["failed"] for row in found.rows[8:]] == [""] * 4
    assert found.rows[8]["file_ratio"] == 1
    assert found.rows[10]["macs_ratio"] < 0.5
    assert found.rows[10]["notes"] == ["1 layer became two of low rank."]
    assert "l2-uniform at 50 %: no filter of the network can be pruned" in " ".join(str(found).split())
    with pytest.raises(ValueError, match="no filter of Sequential can be pruned: the network's output; give"):
        secateur.compare(model, digit_task, methods="l2-uniform,small-dense", targets=0.5, epochs=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": "half"}, "targets has 'half'; give a number, or several"),
        ({"targets": None}, "targets has None"),
        ({"seeds": 1.5}, "seeds has 1.5; give a whole number, or several"),
        ({"methods": 3}, "methods has 3; give a name, or several"),
    ],
)
def test_wrong_wishes_from_python_are_refused(
    options: dict[str, Any], said: str, digit_task: ClassificationTask
) -> None:
    with pytest.raises(TypeError, match=said):
        secateur.compare(plain_network(), digit_task, **options)


def test_what_is_no_trained_network_is_refused(digit_task: ClassificationTask) -> None:
    broken = plain_network()
    next(broken.parameters()).data.view(-1)[0] = float("nan")
    for call in (secateur.compare, secateur.prune):
        with pytest.raises(TypeError, match=r"the model is str; give an nn\.Module"):
            call("resnet20", digit_task)
        with pytest.raises(ValueError, match="holds infinite or undefined numbers; give trained weights"):
            call(broken, digit_task)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "agent,fpgm-globl"], "there is no method 'fpgm-globl', did you mean 'fpgm-global'?"),
        (["--methods", "agent", "agent"], "methods has agent twice"),
        (["--methods", ","], "there are no methods to compare"),
        (["--target-macs", "1.5"], "1.5"),
        (["--target-macs", "half"], "--targets is 'half'"),
        (["--target-macs", "0.5", "0.50000001"], "targets has 0.5 twice"),
        (["--seeds", "-1"], "seed is -1"),
        (["--jobs", "0"], "jobs is 0; allowed is at least 1"),
        (["--train-on-val"], "--train-on-val cannot be compared"),
        (["--target-macs", "0.5", "--targets", "0.4"], "--targets was given twice"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line_before_anything_is_loaded(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("secateur.agent.procedures.opening.open_job", None)
    assert said in refusal(["compare", "demo", *words, "--out", str(tmp_path / "out")], capsys)
    assert not list(tmp_path.iterdir())


def test_a_dense_network_that_cannot_be_trained_is_to_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise FloatingPointError("the loss became nan: lower the learning rate, now 0.1")

    monkeypatch.setattr("secateur.agent.procedures.loading.finetune", diverge)
    said = refusal([*SMALL, "--learning-rate", "0.01", "--out", str(tmp_path / "out")], capsys)
    assert "now 0.1; dense networks are always trained with that, so train it yourself" in said
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_every_system_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SYSTEMS, "refuses", Refuses())
    words = ["compare", NETWORK, "--epochs", "0", "--dense-epochs", "0", "--methods", "refuses"]
    assert "every system failed; refuses: 0.5 is out of reach" in refusal(
        [*words, "--out", str(tmp_path / "out")], capsys
    )
    assert not list(tmp_path.iterdir())


def test_commas_and_spaces_separate_and_the_dense_network_has_one_size() -> None:
    found = entries_of(("agent", "dense-tuned"), (0.25, 0.5), (3,))
    names = [entry.folder for entry in found]
    assert names == ["agent-0.5-seed3", "agent-0.25-seed3", "dense-tuned-1-seed3"]
    assert {"agent", "fpgm-global", "random-uniform", "gradual", "rank"} <= set(SYSTEMS)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_result(tmp_path: Path) -> None:
    words = ["compare", "demo", "--epochs", "1", "--dense-epochs", "1", "--methods", "agent,fpgm-global"]
    words += ["--targets", "0.5", "0.3"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    assert main([*words, "--jobs", "2", "--out", str(tmp_path / "two")]) == 0
    assert_same_networks(tmp_path / "one", tmp_path / "two")


def test_the_table_fits_a_narrow_terminal_with_the_longest_names_and_numbers(whole: Path) -> None:
    content = content_of(whole)
    row = next(row for row in content["table"] if row["method"] == "agent")
    wide = {"mean": 100.0, "deviation": 11.11}
    numbers = {name: {"mean": 1.234, "deviation": None} for name in row if isinstance(row[name], dict)}
    numbers |= {"accuracy": wide, "accuracy_drop": {"mean": 88.88, "deviation": 1.0}}
    numbers |= {"seconds": {"mean": 12345.6, "deviation": None}, "epochs": {"mean": 1.25, "deviation": None}}
    row = row | numbers | {"method": "taylor-global-per-mac"}
    lines = str(Comparison({**content, "table": [row]})).splitlines()
    line = next(line for line in lines if "taylor" in line)
    assert "100.00 ±11.11" in line
    assert "12,346" in line
    assert max(map(len, lines)) <= 100
    assert "…" not in "".join(lines)
