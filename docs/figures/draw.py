"""Draw the figures of the concepts: ``python docs/figures/draw.py`` writes the SVG files beside this one.

Each figure has its own background and colours for light and dark, so it is legible on any page.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path

HERE = Path(__file__).parent

_STYLE = """
.page{fill:#fff;stroke:#d0d7de} .text{fill:#1f2328} .muted{fill:#59636e} .line{stroke:#59636e;fill:none}
.tip{fill:#59636e} .kept{fill:#0072b2} .gone{fill:#f6d9c3;stroke:#b54b00;stroke-dasharray:3 2}
.box{fill:#eef4f9;stroke:#7aa7c7} .other{fill:#fdf1e3;stroke:#d9a566} .on{fill:#fff}
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif} .small{font-size:11.5px} .bold{font-weight:600}
@media (prefers-color-scheme:dark){
.page{fill:#15181c;stroke:#333a42} .text{fill:#e6edf3} .muted{fill:#9aa5b1} .line{stroke:#9aa5b1}
.tip{fill:#9aa5b1} .kept{fill:#3d9bd9} .gone{fill:#3b2a1e;stroke:#e88a4a} .box{fill:#1c2a36;stroke:#4d7a9a}
.other{fill:#33291c;stroke:#a67c45} .on{fill:#0b1116}}
"""


class Figure:
    """An SVG figure; coordinates in pixels from the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]

    def rect(self, x: float, y: float, w: float, h: float, kind: str, radius: float = 3) -> None:
        """Draw a rectangle of a kind: box, other, kept or gone."""
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "text", anchor: str = "start") -> None:
        """Write a line of text; ``anchor`` is start, middle or end."""
        self._parts.append(
            f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw an arrow along points."""
        path = "L".join(f"{x} {y}" for x, y in points)
        self._parts.append(f'<path class="line" d="M{path}" stroke-width="1.4" marker-end="url(#tip)"/>')

    def box(self, x: float, y: float, w: float, h: float, lines: str, kind: str = "box") -> None:
        """Draw a box with centred lines of text; the first is bold."""
        self.rect(x, y, w, h, kind, 6)
        rows = lines.split("\n")
        top = y + h / 2 - 8.5 * (len(rows) - 1) + 4.5
        for k, row in enumerate(rows):
            self.text(x + w / 2, top + 17 * k, row, "text bold" if k == 0 else "muted small", "middle")

    def save(self, name: str) -> None:
        """Write the figure to a file."""
        (HERE / name).write_text("\n".join([*self._parts, "</svg>"]) + "\n", encoding="utf-8")


def cut() -> Figure:
    """What goes with a filter."""
    figure = Figure(
        680, 250, "Removing filter 2 of a convolution takes its batch norm and the weights that read it"
    )
    gone = 2

    def state(row: int) -> str:
        return "gone" if row == gone else "kept"

    figure.text(40, 34, "conv1", "text bold")
    figure.text(40, 52, "4 filters", "muted small")
    figure.text(275, 34, "batch norm", "text bold")
    figure.text(275, 52, "4 channels", "muted small")
    figure.text(455, 34, "conv2", "text bold")
    figure.text(455, 52, "reads 4 channels", "muted small")
    for row in range(4):
        y = 72 + 34 * row
        for column in range(3):
            figure.rect(40 + 30 * column, y, 26, 26, state(row))
        figure.text(140, y + 18, f"filter {row}", "muted small")
        figure.arrow((200, y + 13), (266, y + 13))
        figure.rect(275, y, 60, 26, state(row))
        figure.arrow((345, y + 13), (446, y + 13))
        for column in range(5):
            figure.rect(455 + 30 * column, y, 26, 26, state(row))
    figure.text(455, 222, "each column is a filter of conv2", "muted small")
    figure.text(40, 222, "filter 2 goes, and with it all that is dashed", "muted small")
    return figure


def coupling() -> Figure:
    """Why an addition couples layers."""
    figure = Figure(680, 240, "An addition couples the channels of the layers that it adds")
    figure.box(30, 90, 110, 56, "conv1\n16 filters", "other")
    figure.box(200, 30, 110, 56, "block.conv1\n16 filters")
    figure.box(370, 30, 110, 56, "block.conv2\n16 filters", "other")
    figure.box(540, 90, 110, 56, "+\nby channel", "other")
    figure.arrow((140, 112), (168, 112), (168, 58), (198, 58))
    figure.arrow((310, 58), (368, 58))
    figure.arrow((480, 58), (510, 58), (510, 106), (538, 106))
    figure.arrow((140, 128), (538, 128))
    figure.text(340, 148, "skip connection", "muted small", "middle")
    figure.rect(30, 190, 14, 14, "other")
    figure.text(
        52, 202, "conv1 = block.conv2: one decision for both, channel k with channel k", "muted small"
    )
    figure.rect(30, 212, 14, 14, "box")
    figure.text(52, 224, "block.conv1: a decision of its own", "muted small")
    return figure


def agent() -> Figure:
    """How the agent learns."""
    figure = Figure(
        680,
        300,
        "The agent decides layer by layer, the cut network is measured, the reward teaches the agent",
    )
    figure.box(24, 40, 130, 64, "features\nof each filter\nand of its layer")
    figure.box(214, 40, 130, 64, "agent\nkeep or remove,\nlayer by layer", "other")
    figure.box(474, 40, 160, 64, "candidate\nfilters masked,\nthe rest compensated")
    figure.box(474, 180, 160, 64, "accuracy\non validation\nimages")
    figure.box(214, 180, 130, 64, "reward\nsize met? then\naccuracy counts")
    figure.arrow((154, 72), (212, 72))
    figure.arrow((344, 72), (472, 72))
    figure.text(408, 64, "all layers decided", "muted small", "middle")
    figure.arrow((554, 104), (554, 178))
    figure.arrow((474, 212), (346, 212))
    figure.arrow((279, 180), (279, 106))
    figure.text(289, 147, "PPO", "text bold")
    figure.arrow((320, 40), (320, 20), (238, 20), (238, 38))
    figure.text(330, 25, "next layer", "muted small")
    figure.text(
        340,
        278,
        "one candidate is one episode; 8 or 16 of them make an update",
        "muted small",
        "middle",
    )
    return figure


def choice() -> Figure:
    """How a proposal is chosen."""
    figure = Figure(
        680,
        200,
        "Proposals of the agent and of 15 heuristics are measured, finalists recover shortly, and one is cut",
    )
    figure.box(24, 30, 140, 50, "agent\nits proposals", "other")
    figure.box(24, 110, 140, 50, "15 heuristics\none proposal each")
    figure.box(224, 64, 120, 64, "all\nmeasured on\n512 images")
    figure.box(394, 64, 120, 64, "finalists\nrecover shortly,\nhalf goes on")
    figure.box(564, 64, 92, 64, "the winner\nis cut", "other")
    figure.arrow((164, 55), (194, 55), (194, 84), (222, 84))
    figure.arrow((164, 135), (194, 135), (194, 108), (222, 108))
    figure.arrow((344, 96), (392, 96))
    figure.arrow((514, 96), (562, 96))
    figure.text(284, 150, "one half of val", "muted small", "middle")
    figure.text(454, 150, "the other half of val", "muted small", "middle")
    return figure


def data() -> Figure:
    """What each part of the data is for."""
    figure = Figure(
        680, 230, "train for statistics and fine-tuning, val for rewards and the choice, test for the report"
    )
    rows = (
        ("train", 380, "box", "statistics, compensation, fine-tuning", "read all the time"),
        ("val", 120, "other", "half for rewards, half for finalists", "the dense network must not know it"),
        ("test", 120, "kept", "the report", "read once, at the end"),
    )
    for k, (name, width, kind, purpose, note) in enumerate(rows):
        y = 28 + 64 * k
        figure.rect(24, y, width, 44, kind, 6)
        figure.text(40, y + 27, name, "on bold" if kind == "kept" else "text bold")
        figure.text(424, y + 19, purpose, "text small")
        figure.text(424, y + 36, note, "muted small")
    return figure


def compensation() -> Figure:
    """How kept channels make up for a removed one."""
    figure = Figure(
        680,
        230,
        "A removed channel is fitted as a sum of kept ones, and its weights are shared out among theirs",
    )
    figure.text(40, 34, "channels of conv1", "text bold")
    figure.text(400, 34, "weights of conv2 that read them", "text bold")
    shares = ("+ 0.7 × w2", "+ 0.2 × w2", "", "− 0.1 × w2")
    for k, share in enumerate(shares):
        y = 52 + 36 * k
        gone = k == 2
        figure.rect(40, y, 120, 26, "gone" if gone else "kept")
        figure.text(100, y + 18, f"x{k}", "text" if gone else "on bold", "middle")
        figure.rect(400, y, 60, 26, "gone" if gone else "kept")
        figure.text(430, y + 18, f"w{k}", "text" if gone else "on bold", "middle")
        figure.text(474, y + 18, share, "text")
        if not gone:
            figure.arrow((160, y + 13), (398, y + 13))
    figure.text(170, 142, "x2 ≈ 0.7 x0 + 0.2 x1 − 0.1 x3", "muted small")
    figure.text(40, 214, "least squares over 512 training images; no labels, no gradient", "muted small")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "cut": cut,
    "coupling": coupling,
    "agent": agent,
    "choice": choice,
    "data": data,
    "compensation": compensation,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        draw().save(f"{name}.svg")
