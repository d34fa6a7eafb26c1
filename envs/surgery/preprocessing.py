"""Normalisation of images as the first operation of an exported network.

Shapes: B images, C channels, H and W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Preprocessed(nn.Module):
    """Scale and normalise images as they are decoded, then run a network.

    The input is uint8: what image decoders give, a quarter of the bytes of float32, and no question whether
    values end at 1 or at 255. Resizing is not included, as files and cameras differ.

    Args:
        model: A network of one input, normalised images (B, C, H, W).
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, > 0.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        means, deviations = (torch.tensor(values, dtype=dtype).view(-1, 1, 1) for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * deviations))
        self.register_buffer("shift", means / deviations)

    def forward(self, images: Tensor) -> object:
        """Run the network on images (B, C, H, W) uint8."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        return self.model(images.to(scale.dtype) * scale - shift)
