"""The page of rooms names every file, and files stay short."""

from __future__ import annotations

import re
import statistics
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / name for name in ("secateur", "rewards", "envs", "agent")]
FILES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]

VERBS = {
    "compare", "evaluate", "export", "frontier", "inspect", "prune", "report", "resume", "runs", "train",
}  # fmt: skip


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_file_stands_on_the_page_of_rooms() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named: dict[Path, set[str]] = {}
    for house, part in re.findall(r"^## `([a-z]+)/`(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        for room, files in re.findall(r"^\| (`[a-z/`, ]+`) \| .* \| (.*) \|$", part, re.MULTILINE):
            named[ROOT / house / room.split("`")[-2]] = {name for name in re.findall(r"`(\w+)`", files)}
    assert named
    for folder, names in named.items():
        own = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert names == (own - VERBS if folder.name == "commands" else own), folder
    kept = {path.parent for path in FILES if path.parent.name not in ("rules", *(p.name for p in PACKAGES))}
    assert kept == set(named)


def test_rooms_stand_on_the_page_in_the_order_of_their_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [room for one in contracts["contracts"] if "containers" in one for room in one["layers"]]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \| .* \| .* \|$", page, re.MULTILINE)
    rooms = [room for row in rows for room in re.findall(r"[a-z]+", row)]
    assert [room for room in rooms if room in layers] == layers


@pytest.mark.parametrize("folder", ["secateur", "rewards", "envs", "agent", "tests", "benchmarks"])
def test_no_file_is_longer_than_350_lines(folder: str) -> None:
    long = [path.name for path in (ROOT / folder).rglob("*.py") if lines(path) > 350]
    assert long == []


def test_the_median_file_is_shorter_than_150_lines() -> None:
    assert statistics.median(lines(path) for path in FILES) < 150


def test_the_citation_names_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f'version: "{version}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_networks_are_copied_in_one_way() -> None:
    """``copy.deepcopy`` shares what hooks hold; it copies the networks of policies only, which have none."""
    policies = {"agent/learning/training.py", "benchmarks/proxy.py"}
    peers = {"benchmarks/peer_cuts.py"}  # in an environment of its own
    files = [*FILES, *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")]
    raw = {path.relative_to(ROOT).as_posix() for path in files if "deepcopy(" in path.read_text("utf-8")}
    assert raw == {*policies, *peers, "envs/modules/copying.py"}
