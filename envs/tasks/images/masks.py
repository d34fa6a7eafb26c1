"""Masks on disk: files of one 8-bit channel with class indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode

from ..passes import DataError
from .file_list import FileList
from .image_files import Decoder, naming_the_file

INDEXED = ("L", "P", "1")
"""Pillow's modes of masks whose bytes are class indices."""

MOST_MASKS = 2_000
"""Largest number of masks from which classes are counted before a job, unless all are in memory."""


@dataclass(frozen=True)
class Masks:
    """A mask for each image.

    Args:
        files: The files, (N,).
        decoder: Decodes the images; the masks are fitted to the same size.
        ignore_label: Label that is no class.
        classes: Number of classes; None if it is not known yet.
    """

    files: FileList
    decoder: Decoder
    ignore_label: int
    classes: int | None = None

    bytes_per_pixel: ClassVar[int] = 1

    @property
    def strata(self) -> Tensor:
        """The same stratum for all images, as an image has many classes."""
        return torch.zeros(len(self.files), dtype=torch.int64)

    def empty(self, count: int, size: tuple[int, ...]) -> Tensor:
        """Allocate memory for masks (count, H, W) uint8."""
        return torch.empty((count, *size), dtype=torch.uint8)

    def read(self, index: int) -> Tensor:
        """Decode a mask (H, W) uint8 and fit it.

        Raises:
            DataError: If the file cannot be read, or has a label that is no class.
        """
        mask = self.read_one(index)
        nearest = InterpolationMode.NEAREST_EXACT
        return self.decoder.fitted(mask[None], interpolation=nearest)[0]

    def read_one(self, index: int) -> Tensor:
        """Decode a mask (h, w) uint8 of any size.

        Raises:
            DataError: If the file cannot be read, or has a label that is no class.
        """
        path = self.files[index]
        with naming_the_file(path, DataError), Image.open(path) as opened:
            if opened.mode not in INDEXED:
                raise ValueError(f"the mode of a mask is {opened.mode}")
            mask = torch.from_numpy(np.array(opened, dtype=np.uint8))
        highest = largest_label(mask, self.ignore_label)
        if self.classes is not None and highest >= self.classes:
            raise DataError(
                f"the mask {path} has the label {highest}, but there are {self.classes} classes: name all of "
                "them in classes.txt and begin a new run, or repair the mask"
            )
        return mask


def largest_label(mask: Tensor, ignore_label: int) -> int:
    """Return the largest label of a mask that is not ignored; 0 if all are."""
    labels = mask[mask != ignore_label]
    return int(labels.max()) if len(labels) else 0
