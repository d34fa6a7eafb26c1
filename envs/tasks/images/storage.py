"""Where images are kept: in memory if they fit by far, else on disk, decided before pixels are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ...io import memory
from ...io.ranges import check_whole
from ...io.suggestions import unknown_name
from ..base import SplitName
from ..read_ahead import default_workers, local_ranks
from .image_files import Header, Survey, resized
from .on_disk import CPU, ImageFiles
from .splits import Split, with_source

Splits = dict[SplitName, Split]

InMemory = Literal["auto", "always", "never"]
IN_MEMORY: tuple[str, ...] = get_args(InMemory)

BY_FAR = 4
"""Images are held in memory if that many times their size is available: training, the search and other
programs need memory, too."""

_FEW = 128
"""Images that have to fit into memory as float32 in any case: a batch."""

_FLOAT = 4
"""Bytes of a normalised value."""

_DECODING, _RESIZING = 8, 10
"""Temporary memory of Pillow 13, bytes per pixel of a colour image (measured: 8.2), and of the resized image
(9.7)."""


@dataclass(frozen=True)
class Storage:
    """Settings of where images are kept, and who reads them.

    Args:
        in_memory: "auto" holds them in memory if they fit by far, "always" wherever they fit, "never" reads
            them from disk when they are needed.
        workers: Processes that read images ahead, and threads that read them into memory, at least 0; None is
            one for each core but one.
        device: Device of the task.

    Raises:
        ValueError: If a setting is out of its range.
    """

    in_memory: str = "auto"
    workers: int | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.in_memory not in IN_MEMORY:
            raise ValueError(unknown_name("value of in_memory", self.in_memory, IN_MEMORY))
        if self.workers is not None:
            check_whole("workers", self.workers, 0)

    @property
    def processes(self) -> int:
        """Processes that read images ahead."""
        return default_workers() if self.workers is None else self.workers

    @property
    def threads(self) -> int:
        """Threads that read images into memory."""
        return max(1, self.processes)

    def is_resident(self, images: int, shape: tuple[int, ...], source: str, decoding: int = 0) -> bool:
        """Decide whether images are held in memory.

        Args:
            images: Their number.
            shape: Bytes of an image by axis, (C, H, W); a mask counts as a channel.
            source: Name of the data, for the message.
            decoding: Bytes of temporary memory for reading them.

        Raises:
            ValueError: If they have to be and do not fit, or not even a few of them fit.
        """
        depth, height, width = shape
        each = depth * height * width
        is_resident = self.in_memory == "always"
        if self.in_memory == "auto":
            room = _room(self.device)
            is_resident = room is None or images * each * local_ranks() * BY_FAR + decoding <= room
        few = min(images, _FEW)
        which = "the" if is_resident or few == images else f"even {few} of the"
        needed = images * each if is_resident else few * each * (1 + _FLOAT)
        memory.require_memory(
            needed + decoding,
            f"{which} {images:,} images of {source}, {width}x{height} pixels each,",
            "give fewer images, a smaller image size (--image-size), or a machine with more memory",
        )
        return is_resident

    def keep(self, splits: Splits, headers: Survey, name: str) -> Splits:
        """Read the images of splits into memory if they belong there.

        Args:
            splits: Splits of one source on disk.
            headers: The headers of its images.
            name: Name of the data, for the message.

        Returns:
            The same splits, of a source in memory or on disk.

        Raises:
            ValueError: If images have to be held and do not fit or cannot be read, or not even a few fit.
        """
        files = splits["train"].source
        assert isinstance(files, ImageFiles)
        used = torch.cat([part.indices for part in splits.values()]).unique()
        channels, height, width = files.shape
        shape = (channels + files.targets_on_disk.bytes_per_pixel, height, width)
        decoding = decoding_memory(headers, files.decoder.resize, self.threads)
        if not self.is_resident(len(used), shape, name, decoding):
            return splits
        return with_source(splits, lambda _: files.held(used))

    def check_transforms(self, **replaced: object) -> None:
        """Refuse settings that do not go together with transforms of one's own.

        Args:
            replaced: Settings that the transforms replace, None where they are not given.

        Raises:
            ValueError: If one is given, or images have to be held in memory.
        """
        given = next((name for name, value in replaced.items() if value not in (None, "auto")), None)
        if given is not None:
            flag = given.replace("_", "-")
            raise ValueError(f"transforms of one's own replace --{flag}; leave out one or the other")
        if self.in_memory == "always":
            raise ValueError(
                "images for transforms of one's own are read from disk each time, as their sizes may differ; "
                "leave out --in-memory always"
            )

    def sentence(self, splits: Splits) -> str:
        """Say where images of one size are kept."""
        source = splits["train"].source
        amount = memory.size(sum(map(len, splits.values())) * math.prod(source.shape))
        return f"held in memory ({amount})" if source.is_resident else self.on_disk(f" ({amount} of pixels)")

    def on_disk(self, amount: str = "") -> str:
        """Say that images are read from disk, or resized, by other processes."""
        by = f"by {self.processes} processes" if self.processes > 1 else "ahead by one process"
        return f"read when they are needed{amount}, {by if self.processes else 'in the process itself'}"


def decoding_memory(survey: Survey, resize: int, threads: int) -> int:
    """Return the bytes of temporary memory for reading images in threads, in the worst case.

    Args:
        survey: The headers of the images.
        resize: Length of the shorter side before the central crop, pixels; 0 does not resize or crop.
        threads: Threads that read, at least 1; each may read one of the largest images.
    """
    needed = 0
    for amount, count in sorted(
        ((_temporary_memory(header, resize), count) for header, count in survey.headers.items()), reverse=True
    ):
        needed += min(count, threads) * amount
        threads -= min(count, threads)
    return needed


def _temporary_memory(header: Header, resize: int) -> int:
    """Return the bytes of temporary memory for reading an image."""
    width, height = header.size
    new_width, new_height = resized(header.size, resize) if resize else header.size
    return _DECODING * width * height + _RESIZING * new_width * new_height


def _room(device: torch.device) -> int | None:
    """Return the bytes that are available to the process and, if images go there, on the GPU, if known."""
    known = [memory.available_memory(), torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None]
    return min((amount for amount in known if amount is not None), default=None)
