"""Image files on disk: their headers, their pixels, and errors for broken ones."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize, to_image

from ..passes import DataError

MOST_HEADERS = 20_000
"""Largest number of files whose headers are read: it takes some seconds, and hours for a million on a network
drive."""

_CHUNK = 256  # number of files that a thread reads at a time


class Header(NamedTuple):
    """Header of an image file: Pillow's mode, and width and height, pixels."""

    mode: str
    size: tuple[int, int]

    @property
    def is_deep(self) -> bool:
        """Whether it has more than 8 bits per channel."""
        return self.mode.startswith(("I", "F"))


@dataclass(frozen=True)
class Survey:
    """What the headers of a folder's images say.

    Args:
        headers: The headers that were read, and how many files have each.
        images: Number of all images.
    """

    headers: Mapping[Header, int]
    images: int

    @property
    def mode(self) -> str:
        """Pillow's mode in which to read all images, "L" or "RGB"."""
        return "L" if all(header.mode in ("1", "L") for header in self.headers) else "RGB"

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """All widths and heights, pixels."""
        return {header.size for header in self.headers}

    @property
    def note(self) -> str:
        """A sentence about the headers that were not read; "" if all were."""
        read = sum(self.headers.values())
        if read == self.images:
            return ""
        return (
            f"The headers of {read:,} of the {self.images:,} images were read, evenly spread; images of "
            "another size are resized like the rest."
        )


def survey(count: int, header: Callable[[int], Header], threads: int) -> Survey:
    """Read headers of at most :data:`MOST_HEADERS` images, evenly spread.

    Args:
        count: Number of images.
        header: Reads the header of the image with an index.
        threads: Threads that read, at least 1.

    Raises:
        ValueError: If a header cannot be read or an image cannot be used.
    """
    chosen = np.arange(min(count, MOST_HEADERS)) * count // min(count, MOST_HEADERS)
    chunks = [chosen[i : i + _CHUNK].tolist() for i in range(0, len(chosen), _CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        counts = pool.map(lambda chunk: Counter(map(header, chunk)), chunks)
        return Survey(sum(counts, Counter[Header]()), count)


def read_header(path: Path) -> Header:
    """Read the header of an image.

    Raises:
        ValueError: If it is not an image, has more than 8 bits per channel or more pixels than Pillow opens.
    """
    with naming_the_file(path, ValueError), Image.open(path) as image:
        header = Header(image.mode, image.size)
    if header.is_deep:
        raise ValueError(f"{path} has more than 8 bits per channel: convert the images to 8 bits first")
    return header


@dataclass(frozen=True)
class Decoder:
    """Decode images to one mode, and to one size.

    Args:
        mode: Pillow's mode, "L" or "RGB".
        size: Width and height of the results, pixels; None keeps those of each image.
        resize: Length of the shorter side before the central crop, pixels; 0 keeps images of the right size.
    """

    mode: str
    size: tuple[int, int] | None = None
    resize: int = 0

    def __call__(self, path: Path) -> Tensor:
        """Decode a file to (C, H, W) uint8.

        Raises:
            DataError: If it cannot be read as an image.
        """
        return self.fitted(self.decoded(path))

    def decoded(self, path: Path) -> Tensor:
        """Decode a file to (C, h, w) uint8, of any size.

        Raises:
            DataError: If it cannot be read as an image.
        """
        with naming_the_file(path, DataError):
            return self._decoded(path.read_bytes())

    def fitted(self, image: Tensor, **resampling: object) -> Tensor:
        """Resize and crop an image (C, h, w) as torchvision's evaluation scripts do.

        An image of an unexpected size, whose header was not read, is made to cover the size and cropped.

        Args:
            image: The image.
            resampling: Keywords for torchvision's ``resize``.
        """
        if self.size is None or (not self.resize and tuple(image.shape[1:]) == self.size[::-1]):
            return image
        (width, height), (h, w) = self.size, image.shape[1:]
        scale = max(height / h, width / w)
        size = [self.resize] if self.resize else [math.ceil(h * scale), math.ceil(w * scale)]
        return center_crop(resize(image, size, antialias=True, **resampling), [height, width])

    def __str__(self) -> str:
        assert self.size is not None
        width, height = self.size
        return (
            f"resized to a shorter side of {self.resize} pixels and cropped to the central {width}x{height}"
        )

    def _decoded(self, content: bytes) -> Tensor:
        with Image.open(io.BytesIO(content)) as opened:
            if Header(opened.mode, opened.size).is_deep:
                raise ValueError("more than 8 bits per channel")
            if opened.format == "JPEG" and opened.mode in ("L", "RGB") and self.mode in (opened.mode, "RGB"):
                image = _fast_jpeg(content)
                if image is not None:
                    return image.expand(len(self.mode), -1, -1)
            return to_image(opened.convert(self.mode)).as_subclass(Tensor)


def _fast_jpeg(content: bytes) -> Tensor | None:
    """Decode a JPEG in half of Pillow's time to the same pixels, with torchvision's operation.

    Its Python function is deprecated and warns with each call, as later versions may leave it to TorchCodec.

    Returns:
        The image (C, h, w) uint8; None if it is damaged, or this torchvision does not decode.
    """
    try:
        unchanged = torchvision.io.ImageReadMode.UNCHANGED.value
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        image: Tensor = torch.ops.image.decode_jpeg(data, unchanged, False)
    except (AttributeError, RuntimeError):
        return None  # Pillow decodes it, or says what is wrong
    return image


@contextmanager
def naming_the_file(path: Path, kind: type[Exception]) -> Iterator[None]:
    """Convert Pillow's errors to one that names the file.

    Args:
        path: The file.
        kind: Type of the error: ValueError before a job, DataError in the middle of it.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path} is no longer there: put it back, or begin a new run without it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise kind(
            f"{path} claims to have more pixels than can be opened safely: make the image smaller"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports broken PNGs as SyntaxError
        raise kind(f"{path} cannot be read as an image: repair or remove it") from error


def check_image_size(image_size: int | None) -> None:
    """Check that an image size, if given, is at least one pixel.

    Raises:
        ValueError: If it is not.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"the image size has to be at least one pixel, got {image_size}")


def resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the width and height of an image after resizing its shorter side to ``side`` pixels."""
    scale = side / min(size)
    width, height = (max(round(length * scale), side) for length in size)
    return width, height
