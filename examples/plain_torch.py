"""Prune your own network with your own data loaders and training loop, in plain torch.

    python examples/plain_torch.py

The data are scikit-learn's digits; put your own loaders in their place.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import secateur
from secateur.envs.tasks import Accuracy, LoaderTask


class Network(nn.Module):
    """A small CNN with a residual block."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.block1 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.block2 = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return one score for each class."""
        x = self.stem(images).relu()
        x = (x + self.block2(self.block1(x))).relu()
        return self.head(x.mean((2, 3)))


def loaders() -> dict[str, DataLoader]:
    """Load the digits in three disjoint parts."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    parts = random_split(data, [0.7, 0.15, 0.15], torch.Generator().manual_seed(0))
    return {
        name: DataLoader(part, batch_size=64, shuffle=name == "train")
        for name, part in zip(("train", "val", "test"), parts, strict=True)
    }


def train(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """Train as you always do; nothing here knows of pruning."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimiser.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Return the accuracy in percent."""
    right = [(model(images).argmax(1) == labels).float() for images, labels in loader]
    return 100 * torch.cat(right).mean().item()


def main(arguments: list[str] | None = None) -> nn.Module:
    """Train, search, cut, train again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="epochs before and after the cut")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--effort", default="quick", choices=["quick", "normal", "thorough"])
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    data = loaders()
    dense = Network()
    train(dense, data["train"], given.epochs)

    task = LoaderTask(**data, loss=F.cross_entropy, metric=Accuracy())
    plan = secateur.search(dense, task, target_macs=given.target_macs, effort=given.effort)
    smaller = secateur.cut(dense, plan, task=task)  # with the task, kept filters make up for removed ones
    print(f"cut:     {accuracy(smaller, data['test']):.1f} % on test, before any training")
    train(smaller, data["train"], given.epochs)

    for name, model in (("dense", dense), ("pruned", smaller)):
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name + ':':8} {accuracy(model, data['test']):.1f} % on test, {parameters:,} parameters")
    return smaller


if __name__ == "__main__":
    main()
