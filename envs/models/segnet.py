"""SegNet: an encoder, and a decoder that puts back what was pooled to where it came from."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = (2, 2, 3, 3, 3)
"""Convolutions a stage of the encoder: those of VGG16."""

_SHARES = (1, 2, 4, 8, 8)
"""Filters a stage, in multiples of the first one's."""

_LEAST = 2 ** len(_STAGES)


class SegNet(nn.Module):
    """Badrinarayanan, Kendall and Cipolla 2017, arXiv 1511.00561: max-unpooling by the encoder's indices.

    The encoder is VGG16's thirteen convolutions, the decoder mirrors it; each convolution has batch-norm and
    a ReLU but for the last. An unpooled stage of the decoder takes the indices of the encoder's stage, so the
    filters of both go together.

    Args:
        num_classes: Outputs a pixel.
        in_channels: Channels of the images.
        width: Filters of the first stage, at least 1; 64 as published, 16 has a sixteenth of the MACs.

    Raises:
        ValueError: If the width is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"the width of a SegNet is {width}; give at least 1")
        widths = [share * width for share in _SHARES]
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
            ValueError: If the images have fewer than 32 pixels a side: nothing would be left to pool.
        """
        if min(x.shape[-2:]) < _LEAST:
            height, width = x.shape[-2:]
            raise ValueError(
                f"SegNet pools five times and wants {_LEAST} pixels a side, got {height}x{width}"
            )
        pooled = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]  # what an odd side was is lost in pooling
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
        # Without bias: batch-norm has its own.
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
