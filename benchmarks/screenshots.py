"""Take the two screenshots of the README: TensorBoard and the report of a finished run, in Chromium.

    secateur prune resnet20 --data cifar10-folder --weights resnet20-cifar10.safetensors --out runs/r20
    python benchmarks/screenshots.py runs/r20

Needs Debian's ``chromium``, or any other one on the path. Writes ``tensorboard.png`` and ``report.png``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import Browser, find, serve_tensorboard, timeseries

SHOWN = (
    "search/reward", "search/candidates", "search/keep_probabilities", "search/layers",
    "recovery/val_accuracy", "result/candidates",
)  # fmt: skip

COLOURS = 128
"""Of the palette: half the bytes, and no difference that one sees on pages of few colours."""


def main() -> None:
    """Take both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run of secateur prune")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    asked = parser.parse_args()
    chromium = find()
    if chromium is None:
        sys.exit("there is no Chromium on the path; apt-get install chromium")
    with Browser(chromium) as browser:
        photograph_tensorboard(browser, asked.run, asked.out / "tensorboard.png")
        photograph_report(browser, asked.run, asked.out / "report.png")


def photograph_tensorboard(browser: Browser, run: Path, path: Path) -> None:
    """Show scalars and pictures of the search."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / run.name).symlink_to(run.resolve())  # of this run alone
        with serve_tensorboard(Path(folder)) as address:
            page = browser.open(timeseries(address, SHOWN), 1280, 1240, scale=1.25)
            pictures = "[...document.querySelectorAll('card-view img')].filter(i => i.naturalWidth).length"
            page.wait_for(f"{pictures} === {sum('/val' not in tag and '/rew' not in tag for tag in SHOWN)}")
            page.evaluate("document.querySelector('.settings-button').click()")  # the pane beside the cards
            time.sleep(3)  # charts are drawn by a worker, and nothing tells when
            page.screenshot(path)
    shrink(path)


def photograph_report(browser: Browser, run: Path, path: Path) -> None:
    """Show the report from its beginning to its candidates, and beside it how it begins on a phone."""
    page = browser.open((run / "report.html").resolve().as_uri(), 760, 1240, scale=1.25)
    page.screenshot(path)
    shrink(path)


def shrink(path: Path) -> None:
    """Write a picture again with few colours."""
    picture = Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
