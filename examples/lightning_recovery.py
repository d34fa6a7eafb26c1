"""Cut a network, and fine-tune it with Lightning instead of Secateur's own training.

    pip install lightning
    python examples/lightning_recovery.py

The network and the data are those of ``plain_torch.py``.
"""

import argparse

import lightning
import torch
import torch.nn.functional as F
from plain_torch import Network, accuracy, loaders, train
from torch import Tensor, nn

import secateur
from secateur.envs.tasks import Accuracy, LoaderTask


class Recovery(lightning.LightningModule):
    """Train a cut network on the labels and on the outputs of the dense one."""

    def __init__(self, network: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.teacher = teacher.requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        outputs = self.network(images)
        hint = F.mse_loss(outputs, self.teacher.eval()(images))
        return F.cross_entropy(outputs, labels) + 0.1 * hint

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of the cut network."""
        return torch.optim.AdamW(self.network.parameters(), lr=3e-3)


def main(arguments: list[str] | None = None) -> float:
    """Train, cut, and recover with Lightning; return the accuracy of the cut network on test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="epochs before and after the cut")
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    data = loaders()
    dense = Network()
    train(dense, data["train"], given.epochs)
    task = LoaderTask(**data, loss=F.cross_entropy, metric=Accuracy())
    smaller = secateur.cut(dense, secateur.search(dense, task, target_macs=0.5, effort="quick"), task=task)

    trainer = lightning.Trainer(
        max_epochs=given.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Recovery(smaller.train(), dense), data["train"])  # Lightning leaves the mode as it is
    smaller.cpu().eval()
    after = accuracy(smaller, data["test"])
    print(f"dense {accuracy(dense.cpu(), data['test']):.1f} %, pruned {after:.1f} % on test")
    return after


if __name__ == "__main__":
    main()
