"""Prune a regression with its own loss and metric, into a folder; go on after an interruption.

    python examples/own_task.py
    python examples/own_task.py    # finished already: the result is loaded

The images have one bright spot; the network says where it is.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.envs.tasks import R2


class Locator(nn.Module):
    """Say where the spot is: two numbers, in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32)
        self.head = nn.Linear(32 * 16, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 2)."""
        x = self.norm1(self.conv1(images)).relu()
        x = self.norm2(self.conv2(x)).relu()
        return self.head(x.flatten(1))


def spots(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images (N, 1, 16, 16) of a spot, and its position (N, 2)."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(number, 2, generator=generator)
    grid = torch.linspace(0, 1, 16)
    near = [torch.exp(-(((grid - position[:, k, None]) / 0.12) ** 2)) for k in range(2)]
    images = near[1][:, None, :, None] * near[0][:, None, None, :]
    return images + 0.05 * torch.randn(images.shape, generator=generator), position


def main(arguments: list[str] | None = None) -> float:
    """Train, prune into a folder, and load the pruned network again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/own-task"))
    parser.add_argument("--epochs", type=int, default=15, help="epochs before and after the cut")
    given = parser.parse_args(arguments)

    task = secateur.TensorTask(
        train=spots(2000, 0),
        val=spots(500, 1),
        test=spots(500, 2),
        loss=F.smooth_l1_loss,
        metric=R2(("x", "y")),
        name="spots",
    )
    torch.manual_seed(0)
    dense = secateur.recover(Locator(), task, epochs=given.epochs, learning_rate=0.05)

    result = secateur.prune(
        dense,
        task,
        target_macs=0.4,
        effort="quick",
        epochs=given.epochs,
        out=given.out,
        resume=True,  # goes on with an interrupted run; begins one if there is none
    )
    report = result.report
    print(f"R2 {report['dense']['accuracy']:.1f} % dense, {report['pruned']['accuracy']:.1f} % pruned")
    print(f"{report['ratios']['macs']:.0%} of the MACs; the report is {given.out / 'report.html'}")

    again = secateur.load(Locator, given.out)
    images, _ = spots(4, 3)
    assert torch.equal(again(images), result.model(images))
    return report["pruned"]["accuracy"]


if __name__ == "__main__":
    main()
