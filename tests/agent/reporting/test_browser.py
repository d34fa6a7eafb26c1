"""What pages promise in a real browser: no errors, nothing leaves the machine, and all is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.agent.cli import main
from support import browser
from support.browser import Browser, Page, serve_tensorboard, timeseries

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start Chromium; install Debian's where there is none, if that is allowed."""
    path = browser.find() or _installed()
    if path is None:
        pytest.skip("there is no Chromium, and apt-get install chromium is not possible; install it by hand")
    with Browser(path) as running:
        yield running


def _installed() -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return None
    return browser.find() if done.returncode == 0 else None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a finished run of the whole job, short."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    words = ["prune", "--quiet", "--evaluations", "64", "--epochs", "3", "--dense-epochs", "4"]
    assert main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def tensorboard(run: Path) -> Iterator[str]:
    """Start TensorBoard on the run's parent and give its address."""
    with serve_tensorboard(run.parent) as address:
        yield address


def fetch(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def tags(tensorboard: str, plugin: str) -> set[str]:
    """Ask for the tags of the run, and wait until TensorBoard has read it."""
    until = time.monotonic() + 60
    while not (found := fetch(f"{tensorboard}data/plugin/{plugin}/tags").get("demo")):
        assert time.monotonic() < until, f"TensorBoard finds no {plugin}"
        time.sleep(0.5)
    return set(found)


def overflow(page: Page) -> Any:
    """Give how far the page, or a part of it that scrolls, is wider than what is seen of it."""
    parts = "[document.documentElement, ...document.querySelectorAll('.wide')]"
    return page.evaluate(f"Math.max(...{parts}.map(part => part.scrollWidth - part.clientWidth))")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_report_fits_complains_of_nothing_and_asks_for_nothing(
    chromium: Browser, run: Path, width: int
) -> None:
    address = (run / "report.html").as_uri()
    page = chromium.open(address, width, 800)
    assert page.complaints == []
    assert page.requests == [address]
    assert overflow(page) <= 0
    assert str(page.evaluate("document.title")).startswith("demo on digits, pruned by ppo")


def test_every_picture_of_the_report_has_a_name_and_stays_inside_its_frame(
    chromium: Browser, run: Path
) -> None:
    page = chromium.open((run / "report.html").as_uri(), 360, 800)
    names = page.evaluate("[...document.querySelectorAll('svg[role=img]')].map(svg => svg.ariaLabel)")
    assert len(names) == 4  # layers, candidates, learning, recovery
    assert all(len(name) > 20 for name in names)
    outside = """[...document.querySelectorAll('svg')].flatMap(svg => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1;
        }).map(text => text.textContent);
    })"""
    assert page.evaluate(outside) == []


def test_the_report_prints_on_a_few_pages(chromium: Browser, run: Path, tmp_path: Path) -> None:
    page = chromium.open((run / "report.html").as_uri(), 1280, 800)
    page.pdf(tmp_path / "report.pdf")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 6


def test_tensorboard_has_scalars_pictures_and_pages_of_the_run(tensorboard: str) -> None:
    scalars = tags(tensorboard, "scalars")
    expected = {
        "search/reward", "search/meets_target", "search/candidates_per_second", "search/repaired",
        "layer/stem.0/keep_ratio", "rollout/ep_rew_mean", "train/clip_fraction", "recovery/loss",
        "recovery/learning_rate", "recovery/images_per_second", "recovery/val_accuracy", "result/accuracy",
    }  # fmt: skip
    assert expected <= scalars
    pictures = {f"search/{name}" for name in ("layers", "candidates", "keep_probabilities")}
    assert tags(tensorboard, "images") == pictures | {"result/layers", "result/candidates"}
    texts = fetch(f"{tensorboard}data/plugin/text/tags")["demo"]
    assert {text.removesuffix("/text_summary") for text in texts} == {"configuration", "pinned"}


def test_tensorboards_page_shows_scalars_and_pictures(chromium: Browser, tensorboard: str) -> None:
    tags(tensorboard, "images")
    shown = ("search/reward", "search/candidates", "search/keep_probabilities", "search/layers")
    page = chromium.open(timeseries(tensorboard, shown), 1280, 1600)
    cards = "[...document.querySelectorAll('card-view')].map(card => card.textContent)"
    for tag in shown:
        page.wait_for(f"{cards}.some(text => text.startsWith('{tag}'))")
    images = "[...document.querySelectorAll('card-view img')]"
    page.wait_for(f"{images}.filter(image => image.naturalWidth > 100).length === 3")
    page.wait_for("document.querySelector('scalar-card svg, scalar-card canvas') !== null")
    assert all(address.startswith((tensorboard, "data:", "blob:")) for address in page.requests)
