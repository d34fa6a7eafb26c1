"""Take the two screenshots of the documentation: TensorBoard and the report of a finished run, in Chromium.

    secateur prune --target-macs 0.3 --evaluations 800 --out runs/demo
    python benchmarks/screenshots.py runs/demo

Needs Debian's ``chromium``, or any other one on the path. Writes ``tensorboard.png`` and ``report.png``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.browser import Browser, find, serve_tensorboard, timeseries

SCALARS = ("search/accuracy", "search/macs_ratio", "search/reward")
PICTURES = ("result/candidates", "search/keep_probabilities", "search/layers")

HEIGHT, SCALE, MARGIN = 1240, 2, 8
"""Height in CSS pixels; pixels per CSS pixel; margin between two pages in pixels."""


def main() -> None:
    """Take both screenshots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run of secateur prune")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the screenshots")
    args = parser.parse_args()
    chromium = find()
    if chromium is None:
        sys.exit("there is no Chromium on the path; apt-get install chromium")
    with Browser(chromium) as browser:
        photograph_tensorboard(browser, args.run, args.out / "tensorboard.png")
        photograph_report(browser, args.run, args.out / "report.png")


def photograph_tensorboard(browser: Browser, run: Path, path: Path) -> None:
    """Take a screenshot of the search's scalars and images."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / run.name).symlink_to(run.resolve())  # so that TensorBoard shows this run only
        with serve_tensorboard(Path(folder)) as address:
            page = browser.open(timeseries(address, SCALARS + PICTURES), 1280, HEIGHT, SCALE)
            pictures = "[...document.querySelectorAll('card-view img')].filter(i => i.naturalWidth).length"
            page.wait_for(f"{pictures} === {len(PICTURES)}")
            page.evaluate("document.querySelector('.settings-button').click()")  # close the settings pane
            time.sleep(3)  # charts are drawn by a worker without a signal
            page.screenshot(path)
    shrink(path)


def photograph_report(browser: Browser, run: Path, path: Path) -> None:
    """Take a screenshot of the top of the report on a desktop, and of its candidates on a phone."""
    address = (run / "report.html").resolve().as_uri()
    with tempfile.TemporaryDirectory() as folder:
        parts = [Path(folder) / name for name in ("desk.png", "phone.png")]
        browser.open(address, 760, HEIGHT, SCALE).screenshot(parts[0])
        phone = browser.open(address, 360, HEIGHT, SCALE)
        phone.evaluate(
            "[...document.querySelectorAll('h2')].find(h => h.textContent == 'Search').scrollIntoView()"
        )
        phone.screenshot(parts[1])
        desk, hand = (Image.open(part).convert("RGB") for part in parts)
        whole = Image.new("RGB", (desk.width + MARGIN + hand.width, desk.height), "#cccccc")
        whole.paste(desk, (0, 0))
        whole.paste(hand, (desk.width + MARGIN, 0))
        whole.save(path)
    shrink(path)


def shrink(path: Path) -> None:
    """Reduce a picture to a palette, which halves its size without a visible difference."""
    picture = Image.open(path).convert("RGB")
    picture = picture.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
