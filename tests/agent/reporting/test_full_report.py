"""What a report adds since version 0.1: what is noticed first, what is beside a number, how to go on."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from secateur.agent.reporting.formatting import lead_of
from secateur.agent.reporting.loading_code import export_code, running_code
from secateur.agent.reporting.remarks import remarks
from secateur.agent.reporting.report import rewrite_page, write_report
from support.reports import demo_report, full_report, page_text, shown, shown_details


@pytest.fixture
def report() -> dict[str, Any]:
    return full_report()


def with_remarks(report: dict[str, Any]) -> dict[str, Any]:
    return report | {"remarks": remarks(report)}


def test_the_terminal_shows_first_what_a_user_notices(report: dict[str, Any]) -> None:
    text = shown(report)
    places = [
        text.index(part)
        for part in ("test accuracy", "95 % interval", "images/s, batch 128", "file of the weights", "MACs",
                     "parameters", "latency, batch 1", "filters", "test loss")
    ]  # fmt: skip
    assert places == sorted(places)
    for part in ("1.83 times", "3,021 ±1 %", "5,518 ±2 %", "545 kB", "254 kB", "0.55 ms ±4 %"):
        assert part in text.replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, text.splitlines())) <= 80


def test_the_page_has_all_that_is_needed_to_ship(report: dict[str, Any], tmp_path: Path) -> None:
    text = page_text(report, tmp_path)
    for fact in (
        "1.83 times", "the images per second", "classes10", "mean 0.3053; std 0.376", "border of 1 pixels",
        "val accuracy of the best heuristic at this size, taylor-global", "94.20 %", "−0.90 points",  # noqa: RUF001
        "val accuracy before tuning", "93.50 %", "+2.75 points", "97.00 %", "Test accuracy of each class",
        f"secateur export {tmp_path} --format onnx --with-preprocessing", "onnxruntime",
    ):  # fmt: skip
        assert fact in text, fact


def test_the_page_shows_what_each_finalist_had_and_who_won(report: dict[str, Any], tmp_path: Path) -> None:
    text = page_text(report, tmp_path)
    rows = ["l1-uniform50.0 %89.00 %95.00 %", "ppo49.8 %95.10 %96.40 %96.90 %",
            "l2-uniform49.9 %90.00 %96.20 %96.70 %"]  # fmt: skip
    for row in (*rows, "finalistMACsbeforeafter 0.25 epochsafter 0.38 epochs"):
        assert row in text.replace("\n", ""), row
    assert "ppo leads l2-uniform by 0.20 points, within the noise" in text
    assert "1.5 epochs in 12 s" in text
    assert "Finalists" not in page_text(demo_report(), tmp_path)


@pytest.mark.parametrize(
    ("winner", "points", "interval", "said"),
    [
        (
            "ppo",
            2.0,
            [0.5, 3.5],
            "b by 2.00 points, more than the noise (80% interval +0.50 to +3.50)",
        ),
        ("a", 0.1, [-0.5, 0.7], "a leads b by 0.10 points, within the noise"),
        (
            "a",
            -0.1,
            [-0.7, 0.5],
            "0.50 to +0.70), so the heuristic is cut",
        ),
        ("a", math.inf, None, "the training of b diverged"),
        ("a", None, None, "the training of b diverged"),
        ("a", 1.0, None, "of a noise that is not known"),
        ("a", -1.0, None, "of a noise that is not known, so the heuristic is cut"),
        ("a", 0.0, [-0.5, 0.5], "a and b are equal"),
    ],
)
def test_who_won_is_said_with_the_noise(
    winner: str, points: float | None, interval: list[float] | None, said: str
) -> None:
    is_clear = interval is not None and interval[0] > 0
    lead = {"over": "b", "points": points, "interval": interval, "level": 0.8, "is_clear": is_clear}
    assert said in lead_of({"winner": winner, "lead": lead})


def test_the_report_of_an_old_run_is_written_again_without_what_it_has_not(tmp_path: Path) -> None:
    write_report(tmp_path, demo_report())
    (tmp_path / "report.html").unlink()
    rewrite_page(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "67.7 %</b> of the latency" in text
    assert "images/s" not in text
    assert "file of the weights" not in text
    assert "±" not in text
    assert "Timed on 2 threads in float32." in text
    assert "--with-preprocessing" not in text


def test_without_fine_tuning_and_heuristics_there_are_no_rows_for_them(report: dict[str, Any]) -> None:
    del report["search"]["best_heuristic"]
    report["recovery"]["epochs"] = 0
    assert "val accuracy" not in shown(report)


def test_a_run_as_it_should_be_needs_no_remark(report: dict[str, Any]) -> None:
    assert remarks(report) == []


@pytest.mark.parametrize(
    ("interval", "odd"), [([-3.0, -0.1], True), ([-3.0, 0.0], False), ([0.1, 2.0], False), (None, False)]
)
def test_a_pruned_network_that_is_better_gets_the_usual_causes(
    interval: list[float] | None, odd: bool, report: dict[str, Any]
) -> None:
    report["accuracy_drop_interval"] = interval
    report = with_remarks(report)
    assert [entry["about"] for entry in report["remarks"]] == ["accuracy"] * odd
    text = shown(report)
    assert ("test accuracy [1]" in text) == ("[1] The pruned network is significantly better" in text) == odd


def test_what_keeps_its_macs_gets_no_advice_on_speed(report: dict[str, Any]) -> None:
    report["ratios"] |= {"images_per_second": 1.0, "latency_ms": 1.0}
    assert len(remarks(report)) == 2
    report["ratios"]["macs"] = 1.0
    assert remarks(report) == []


def test_the_page_has_the_numbers_of_a_system(report: dict[str, Any], tmp_path: Path) -> None:
    details = {"sparsity": 0.7, "epochs_of_each_round": [1.0, 0.5], "share_by_layer": {"conv.weight": 0.25}}
    text = page_text(with_remarks(report | {"system": {"details": details}}), tmp_path)
    for row in ("sparsity0.7", "epochs of each round1, 0.5", "conv.weight25.0 %"):
        assert row in text
    assert "what stays" not in page_text(with_remarks(report), tmp_path)
    text = page_text(with_remarks(report | {"system": {"details": {"ranks": {"conv": 8}}}}), tmp_path)
    assert "conv8" in text


def test_no_gain_in_speed_is_said_with_what_to_try(report: dict[str, Any], tmp_path: Path) -> None:
    report["ratios"] |= {"images_per_second": 1.02, "latency_ms": 1.1}
    throughput, latency = remarks(report)
    assert "--round-to 8" in throughput["text"]
    assert "--target-latency" in throughput["text"]
    assert throughput["about"] == "images_per_second"
    assert "not faster at a batch of 1" in latency["text"]
    text = page_text(with_remarks(report), tmp_path)
    assert "images/s, batch 128 [1]" in text
    assert "[2] Smaller is not faster at a batch of 1." in text
    assert max(map(len, shown(with_remarks(report)).splitlines())) <= 80


def test_what_to_try_depends_on_what_the_time_is_spent_on(report: dict[str, Any]) -> None:
    report["ratios"]["latency_ms"] = 0.99
    (latency,) = remarks(report)  # 0.812 ms for one image, 0.33 ms for each of 128
    assert "onnxruntime" in latency["text"]
    report["dense"]["images_per_second"] = 1000.0
    (latency,) = remarks(report)
    assert "onnxruntime" not in latency["text"]
    assert "--target-latency" in latency["text"]


@pytest.mark.parametrize(("what", "about"), [("throughput", "images_per_second"), ("latency", "latency_ms")])
def test_a_busy_machine_is_named_beside_the_number(what: str, about: str, report: dict[str, Any]) -> None:
    report[what]["busy"] = True
    (remark,) = remarks(report)
    assert remark["about"] == about
    assert "busy" in remark["text"]


def test_a_remark_about_two_numbers_is_there_once_and_a_number_may_have_two(report: dict[str, Any]) -> None:
    report["throughput"]["busy"] = report["latency"]["busy"] = True
    report["ratios"]["latency_ms"] = 1.1
    text = shown(with_remarks(report))
    assert text.count("was busy") == 1
    assert "images/s, batch 128 [1]" in text
    assert "latency, batch 1 [2] [1]" in text


def test_of_many_classes_the_terminal_shows_those_that_change_most_and_the_page_all(
    report: dict[str, Any], tmp_path: Path
) -> None:
    details = [{"name": f"class {k}", "dense": 90.0, "pruned": 90.0 - k / 10} for k in range(100)]
    details[50]["pruned"] = None
    assert "Test mean IoU of each class" in page_text(report | {"metric": "mean IoU"}, tmp_path)
    text = shown_details(report | {"details": details})
    assert re.findall(r"class (\d+)", text) == [str(k) for k in range(99, 79, -1)]
    assert "20 of 100" in text
    assert page_text(report | {"details": details}, tmp_path).count("class ") == 101  # once in a style


def test_the_export_is_that_of_networks_that_the_command_can_build(report: dict[str, Any]) -> None:
    folder = Path("runs/it's mine")
    command = "secateur export 'runs/it'\"'\"'s mine' --format onnx"
    assert export_code(report, folder) == f"{command} --with-preprocessing"
    compile(running_code(report, folder), "report", "exec")
    assert "uint8 (batch, 1, 8, 8), 0 to 255" in running_code(report, folder)
    report["normalisation"] = None
    assert export_code(report, folder) == command
    assert "float32 (batch, 1, 8, 8)" in running_code(report, folder)
    own = report | {"built_by_name": False}
    assert export_code(own, folder) == running_code(own, folder) == ""
