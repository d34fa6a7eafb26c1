"""Prune a whole detector of torchvision, and recover it by its own losses; go on after an interruption.

    python examples/torchvision_detector.py
    python examples/torchvision_detector.py    # finished already: the result is loaded

The images have bright squares and discs; the detector, a small RetinaNet, says where.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

import secateur
from secateur.envs.tasks import AveragePrecision

PIXELS = 64


class Backbone(nn.Module):
    """Three stages and a feature pyramid on the last two."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(unit(3, 16), unit(16, 32))
        self.middle, self.last = unit(32, 48), unit(48, 64)
        self.pyramid = FeaturePyramidNetwork([48, 64], self.out_channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid, of an eighth and a sixteenth of the pixels."""
        middle = self.middle(self.stem(images))
        return self.pyramid({"0": middle, "1": self.last(middle)})


def unit(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the resolution."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def build() -> RetinaNet:
    """Build the detector, untrained."""
    anchors = AnchorGenerator(((12, 16, 20), (24, 32, 40)), ((1.0,),) * 2)
    return RetinaNet(
        Backbone(), num_classes=3, anchor_generator=anchors, min_size=PIXELS, max_size=PIXELS,
        image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip


def scenes(number: int, seed: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Draw images (N, 3, 64, 64), each with a square (label 1) and a disc (label 2), and their boxes."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.2 * torch.rand(number, 3, PIXELS, PIXELS, generator=generator)
    y, x = torch.meshgrid(torch.arange(PIXELS), torch.arange(PIXELS), indexing="ij")
    targets = []
    for image in images:
        square, disc = (somewhere(generator) for _ in range(2))
        image[:, square[1] : square[3], square[0] : square[2]] += 0.6
        middle, radius = [(disc[k] + disc[k + 2] - 1) / 2 for k in range(2)], (disc[2] - disc[0]) / 2
        image[:2, (x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= radius**2] += 0.4
        targets.append({"boxes": torch.tensor([square, disc]).float(), "labels": torch.tensor([1, 2])})
    return images, targets


def somewhere(generator: torch.Generator) -> list[int]:
    """Draw a square box in the image: left, top, right, bottom."""
    side = int(torch.randint(12, 28, (), generator=generator))
    left, top = torch.randint(0, PIXELS - side, (2,), generator=generator).tolist()
    return [left, top, left + side, top + side]


class Detection:
    """Images with boxes. There is no ``loss``: the detector computes its losses itself."""

    name, input_shape, num_outputs, notes = "scenes", (3, PIXELS, PIXELS), 2, ()
    classes = ("square", "disc")
    metric_name = "AP50"

    def __init__(self, train: int, others: int = 64) -> None:
        self.parts = {"train": scenes(train, 0), "val": scenes(others, 1), "test": scenes(others, 2)}
        self.precision = AveragePrecision(self.classes)

    def size(self, split: str) -> int:
        """Return the number of images."""
        return len(self.parts[split][0])

    def batch(self, split: str, indices: Tensor, **_: Any) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Return images, and the boxes of each as torchvision's detectors want them."""
        images, targets = self.parts[split]
        return images[indices], [targets[k] for k in indices.tolist()]

    def training_loss(self, model: nn.Module, inputs: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        """Sum the losses of the detector."""
        return sum(model(list(inputs), targets).values())

    def statistics(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> Tensor:
        """Count what the detector gives back in evaluation mode: boxes, labels and scores of each image."""
        return self.precision.statistics(outputs, targets)

    def metric(self, statistics: Tensor) -> float:
        """Return the average precision at an overlap of one half, percent."""
        return self.precision.value(statistics)

    def details(self, statistics: Tensor) -> dict[str, float | None]:
        """Return that of each class, for the report."""
        return self.precision.details(statistics)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train, prune into a folder, and detect with what is loaded from it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/detector"))
    parser.add_argument("--epochs", type=int, default=20, help="epochs before and after the cut")
    parser.add_argument("--images", type=int, default=256, help="images to train on")
    given = parser.parse_args(arguments)

    task = Detection(given.images)
    torch.manual_seed(0)
    training: dict[str, Any] = {"epochs": given.epochs, "batch_size": 16, "optimiser": "adamw"}
    dense = secateur.recover(build(), task, learning_rate=3e-3, **training)
    result = secateur.prune(
        dense, task, target_macs=0.5, effort="quick", out=given.out, resume=True, **training
    )
    report = result.report
    print(f"AP50 {report['dense']['accuracy']:.1f} % dense, {report['pruned']['accuracy']:.1f} % pruned")
    print(f"{report['ratios']['macs']:.0%} of the MACs; the report is {given.out / 'report.html'}")

    again = secateur.load(build, given.out)
    images, _ = scenes(1, 3)
    print("boxes:", again(list(images))[0]["boxes"][:2].round().tolist())
    return report


if __name__ == "__main__":
    main()
