"""What the report promises: a page and a JSON file that say what was gained and need nothing else."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.agent.reporting.formatting import figures, large, percent, signed
from secateur.agent.reporting.loading_code import loading_code
from secateur.agent.reporting.report import rewrite_page, write_report
from support.reports import demo_report, shown

VOID = {"meta", "br", "img", "link", "input", "hr"}


@pytest.fixture
def report() -> dict[str, Any]:
    return demo_report()


class Reader(HTMLParser):
    """Check that tags nest, and collect what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href") or key.startswith("on")]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(report: dict[str, Any], folder: Path) -> tuple[str, Reader]:
    write_report(folder, report)
    html = (folder / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return html, reader


def test_the_folder_holds_the_two_files_and_nothing_half_written(
    report: dict[str, Any], tmp_path: Path
) -> None:
    write_report(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_the_json_is_the_report_in_a_stable_order(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(tmp_path, report)
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text) == report
    write_report(tmp_path, dict(reversed(report.items())))
    assert (tmp_path / "report.json").read_text() == text
    assert text.endswith("}\n")


def test_the_json_is_standard_whatever_numbers_come(report: dict[str, Any], tmp_path: Path) -> None:
    report["pruned"]["loss"] = math.nan
    report["search"]["best"] = math.inf
    report["layers"][0]["kept"] = np.int64(20)
    report["accuracy_drop"] = np.float32(0.5)
    report["recovery"]["losses"] = (0.5, math.nan, 0.25)
    write_report(tmp_path, report)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert read["pruned"]["loss"] is None
    assert read["search"]["best"] is None
    assert read["layers"][0]["kept"] == 20
    assert read["accuracy_drop"] == 0.5
    assert read["recovery"]["losses"] == [0.5, None, 0.25]


def test_the_page_needs_nothing_else(report: dict[str, Any], tmp_path: Path) -> None:
    html, reader = page_of(report, tmp_path)
    assert all(link.startswith("#") for link in reader.links)
    assert not reader.tags & {"script", "link", "iframe", "object", "img", "base", "form"}
    assert not re.search(r"@import|url\((?!#)", html)
    assert [url for url in re.findall(r"\w+://[^\"' <]+", html) if url != "http://www.w3.org/2000/svg"] == []
    assert "default-src 'none'" in html


def test_what_pictures_refer_to_is_there_once(report: dict[str, Any], tmp_path: Path) -> None:
    report["search"]["candidates"] = {
        "macs_ratio": [0.4, 0.6],
        "accuracy": [90.0, 95.0],
        "meets_target": [1, 0],
    }
    html, reader = page_of(report, tmp_path)
    assert html.count("<svg") == 4
    assert len(set(reader.ids)) == len(reader.ids) > 4
    referred = {link.removeprefix("#") for link in (*reader.links, *re.findall(r"url\(([^)]*)\)", html))}
    assert referred <= set(reader.ids)


def test_the_same_report_gives_the_same_page(report: dict[str, Any], tmp_path: Path) -> None:
    first, _ = page_of(report, tmp_path)
    again, _ = page_of(report, tmp_path)
    assert first == again


def test_the_page_can_be_read_on_a_phone_and_printed(report: dict[str, Any], tmp_path: Path) -> None:
    html, _ = page_of(report, tmp_path)
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in html
    assert "@media print" in html
    assert '<html lang="en">' in html
    assert '<meta charset="utf-8">' in html


def test_the_page_says_what_was_gained_and_how_to_have_it_again(
    report: dict[str, Any], tmp_path: Path
) -> None:
    _, reader = page_of(report, tmp_path)
    facts = (
        "demo on digits, pruned by ppo", "97.77 %", "97.21 %", "−0.56 points", "2.83 M", "1.41 M", "49.8 %",  # noqa: RUF001
        "0.812 ms", "0.55 ms", "67.7 %", "stem.0", "62.5 %", "3,012", "71.3 s", "95.1 %", "1,295 images",
        "359 images", "val was taken from train", "secateur prune demo --target-macs 0.5", "secateur.load(",
        "3.11.7", "cpu (x86_64)", "10 of 10", "the network's output", "mean reward by update",
        "loss by epoch",
    )  # fmt: skip
    for fact in facts:
        assert fact in reader.text, fact


def test_the_page_can_be_written_again_from_the_numbers_alone(report: dict[str, Any], tmp_path: Path) -> None:
    report["pruned"]["loss"] = math.nan
    report["recovery"]["losses"] = [0.9, math.nan, 0.4]
    first, _ = page_of(report, tmp_path)
    (tmp_path / "report.html").unlink()
    assert rewrite_page(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not the folder of a run: it has no report.json; give"),
        ("", "is damaged"),
        ("[1]", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("{}", "does not describe a pruned network"),
        ('{"dense": 3, "model": "x"}', "does not describe a pruned network"),
    ],
)
def test_a_damaged_report_is_named_and_its_page_left_alone(
    content: str | None, said: str, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("as it was")
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        rewrite_page(tmp_path)
    assert (tmp_path / "report.html").read_text() == "as it was"


def test_the_report_of_an_unfinished_run_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="is not a finished prune run"):
        rewrite_page(tmp_path)


def test_long_lists_of_numbers_are_a_line_each(report: dict[str, Any], tmp_path: Path) -> None:
    report["search"]["candidates"] = {"loss": [0.1234, -1e-05] * 1000}
    report["command"] = "[\n 1,\n 2\n]"
    write_report(tmp_path, report)
    text = (tmp_path / "report.json").read_text()
    assert max(map(len, text.splitlines())) > 10_000
    assert json.loads(text) == report


def test_names_cannot_smuggle_markup_into_the_page(report: dict[str, Any], tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&<b>"
    for key in ("model", "data", "method", "command", "device"):
        report[key] = evil
    report["layers"][0]["name"] = evil
    report["splits"]["notes"] = [evil]
    report["pinned"][0] = {"name": evil, "pinned": 1, "filters": 2, "cause": evil}
    report["versions"] = {evil: evil}
    report["search"][evil] = evil
    _, clean = page_of(copy.deepcopy(report) | {"model": "demo"}, tmp_path)
    html, reader = page_of(report, tmp_path)
    assert reader.tags == clean.tags
    assert "script" not in reader.tags
    assert "<script" not in html
    assert reader.text.count(evil) >= 10


def test_what_is_missing_leaves_no_empty_section(report: dict[str, Any], tmp_path: Path) -> None:
    for key in ("pinned", "num_outputs", "input_shape"):
        del report[key]
    report["command"] = ""
    report["search"].pop("rewards")
    report["recovery"] = {"epochs": 0, "seconds": 0.0, "losses": []}
    report["splits"]["notes"] = []
    html, reader = page_of(report, tmp_path)
    assert "Repeat the run" not in reader.text
    assert "Pinned filters" not in reader.text
    assert "by epoch" not in reader.text
    assert "by update" not in reader.text
    assert not re.search(r"</h2>\s*</section>", html)


def test_the_lines_that_load_the_network_are_python_that_does(report: dict[str, Any]) -> None:
    code = loading_code(report, Path("runs/it's mine"))
    compile(code, "report", "exec")
    assert "get_model('demo', num_classes=10, in_channels=1)" in code
    assert '"runs/it\'s mine"' in code
    assert loading_code(report | {"built_by_name": True}, Path("runs/it's mine")) == code
    own = loading_code(report | {"built_by_name": False}, Path("runs/one"))
    assert loading_code(report | {"model": "my network"}, Path("runs/one")) == own  # as of version 0.1
    compile(own, "report", "exec")
    assert "get_model" not in own
    assert "secateur.load(build_dense, 'runs/one')" in own


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1 k"), (134762, "135 k"), (999_999, "1 M"), (40.8e6, "40.8 M"),
     (15.5e9, "15.5 G"), (3e15, "3e+03 T")],
)  # fmt: skip
def test_large_counts_are_short(count: float, text: str) -> None:
    assert large(count) == text


def test_changes_have_a_sign_and_ratios_a_unit() -> None:
    assert signed(-0.561, 2) == "−0.56"  # noqa: RUF001
    assert signed(0.561, 2) == "+0.56"
    assert signed(-0.0001, 2) == "+0.00"
    assert percent(0.4978) == "49.8 %"


def test_figures_have_the_units_that_their_names_say() -> None:
    values = {"seconds": 71.3, "val_accuracy": 95.104, "val_accuracy_drop": 2, "val_accuracy_before": 94.4,
              "evaluations": 3012, "losses": [1, 2], "nothing": None, "who": "ppo", "best": True}  # fmt: skip
    assert figures(values) == [
        ("seconds", "71.3 s"),
        ("val accuracy", "95.1 %"),
        ("val accuracy drop", "2 points"),
        ("val accuracy before", "94.4 %"),
        ("evaluations", "3,012"),
        ("who", "ppo"),
        ("best", "True"),
    ]


def test_the_terminal_shows_dense_pruned_and_ratio(report: dict[str, Any]) -> None:
    text = shown(report)
    for part in (
        "demo on digits, pruned by ppo",
        "dense",
        "pruned",
        "ratio",
        "97.77 %",
        "2.83 M",
        "49.8 %",
        "0.55 ms",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_accuracy_comes_with_its_interval_and_its_bound(report: dict[str, Any], tmp_path: Path) -> None:
    assert "95 %" not in shown(report)
    report |= {"accuracy_drop_interval": [-0.83, 1.951], "drop_bound": {"bound": 2.0, "met": "yes"}}
    text = shown(report)
    assert "−1.95 to +0.83" in text  # noqa: RUF001
    assert re.search(r"bound on the drop .* 2 points .* kept", text)
    assert max(map(len, text.splitlines())) <= 80
    assert "points of test accuracy (95 %: −1.95 to +0.83)" in page_of(report, tmp_path)[1].text  # noqa: RUF001
    for met, word in (("no", "exceeded"), ("undecided", "undecided")):
        report["drop_bound"]["met"] = met
        assert word in shown(report)


@pytest.mark.parametrize(
    ("unseen", "interval", "parts"),
    [
        (True, [-0.285, 1.951], (r"on 12,500 unseen\s", "−0.83", r"−1.95 to \+0.2[89]", "exceeded")),  # noqa: RUF001
        (False, None, (r"on 12,500 images of val", "−0.83", "exceeded")),  # noqa: RUF001
    ],
)
def test_the_check_of_a_bound_on_val_is_shown(
    unseen: bool, interval: list[float] | None, parts: tuple[str, ...], report: dict[str, Any]
) -> None:
    check = {"images": 12_500, "unseen": unseen, "drop": 0.83, "interval": interval, "met": "no"}
    report["drop_bound"] = {"bound": 2.0, "met": "yes", "on_val": check}
    text = shown(report)
    for part in parts:
        assert re.search(part, text), part
    assert max(map(len, text.splitlines())) <= 80


def test_the_terminal_takes_names_literally(report: dict[str, Any]) -> None:
    report["model"] = "[bold red]net[/]"
    assert "[bold red]net[/]" in shown(report)
