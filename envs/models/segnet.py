"""SegNet: an encoder, and a decoder that unpools to the positions of the encoder's maxima."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = (2, 2, 3, 3, 3)
"""Convolutions per stage of the encoder: those of VGG16."""

_MULTIPLES = (1, 2, 4, 8, 8)
"""Filters per stage, in multiples of the first stage's."""

_MIN_PIXELS = 2 ** len(_STAGES)


class SegNet(nn.Module):
    """The SegNet of Badrinarayanan, Kendall and Cipolla 2017 (arXiv 1511.00561).

    The encoder has VGG16's thirteen convolutions, and the decoder mirrors it. Batch-norm and a ReLU follow
    each convolution but the last. A stage of the decoder unpools with the indices of the encoder's stage,
    which couples the filters of both.

    Args:
        num_classes: Number of classes per pixel, K.
        in_channels: Channels of the images.
        width: Filters of the first stage, at least 1. The paper has 64; 16 has a sixteenth of the MACs.

    Raises:
        ValueError: If the width is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"the width of a SegNet is {width}; give at least 1")
        widths = [multiple * width for multiple in _MULTIPLES]
        self.encoder = nn.ModuleList(
            _stage([inputs, *[outputs] * count])
            for inputs, outputs, count in zip([in_channels, *widths], widths, _STAGES, strict=False)
        )
        self.decoder = nn.ModuleList(
            _stage([*[inputs] * count, outputs])
            for inputs, outputs, count in zip(widths[:0:-1], widths[-2::-1], _STAGES[:0:-1], strict=True)
        )
        self.last = _stage([width, width])
        self.classifier = nn.Conv2d(width, num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel: (B, C, H, W) -> (B, K, H, W).

        Raises:
            ValueError: If the images have fewer than 32 pixels per side, too few for five poolings.
        """
        if min(x.shape[-2:]) < _MIN_PIXELS:
            height, width = x.shape[-2:]
            raise ValueError(
                f"SegNet pools five times: give at least {_MIN_PIXELS} pixels per side, got {height}x{width}"
            )
        pooled = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]  # unpooling cannot know whether a side was odd
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            pooled.append((indices, size))
        for stage in [*self.decoder, self.last]:
            indices, size = pooled.pop()
            x = stage(F.max_unpool2d(x, indices, (2, 2), output_size=list(size)))
        logits: Tensor = self.classifier(x)
        return logits


def _stage(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        # Without bias: batch-norm has one.
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
