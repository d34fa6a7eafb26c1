"""A plain CNN, so that an agent is trained on more than residual networks.

    python benchmarks/dense.py plain:plain8 --data cifar10-folder --epochs 8 --learning-rate 0.1 --out
    plain8-cifar10.safetensors

in this folder, so that ``plain:plain8`` can be imported.
"""

from torch import nn
from torchvision.models.vgg import make_layers


def plain8(num_classes: int = 10) -> nn.Module:
    """Build a network of pairs of convolutions like VGG's, with 32 to 256 filters, for 32x32 pixels."""
    widths: list[str | int] = [32, 32, "M", 64, 64, "M", 128, 128, "M", 256, 256]
    return nn.Sequential(
        make_layers(widths, batch_norm=True),  # type: ignore[arg-type]
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, num_classes),
    )
