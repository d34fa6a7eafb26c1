"""Folders of images, one folder per class, read into memory.

Images are assigned to splits before their pixels are read, so that they are in memory once and never copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..io.suggestions import unknown_name
from .base import SplitName
from .image_files import (
    SUFFIXES,
    Header,
    OnDisk,
    check_image_size,
    naming_the_file,
    read_header,
    reading_pool,
    require_memory_for,
    resized,
)
from .splits import Split

_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
USUAL_VAL = ("auto", "train", "test")
"""Values of ``val_from`` that do not name a folder with val."""

_DEFAULT_SIZE = 224
# torchvision's presets for ImageNet: resize the shorter side to 256 pixels, then crop the central 224.
_RESIZE_MARGIN = 256 / 224
_CHUNK = 256  # number of images that a thread reads at a time


@dataclass(frozen=True)
class ImageFolder:
    """An image folder whose headers have been read, and which fits into memory.

    Args:
        parts: Files of the parts; the strata are the labels.
        classes: Names of the classes, in the order of the labels.
        notes: Sentences for the report.
        reader: Decodes the images.
        workers: Threads that read files, at least 1; None is one for each core.
    """

    parts: Mapping[SplitName, OnDisk[Path]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    reader: _Reader
    workers: int | None = None

    def read(self, part: OnDisk[Path]) -> Split:
        """Read the pixels of some of the images.

        Raises:
            ValueError: If an image cannot be read.
        """
        images = self.reader.empty(len(part))
        chunks = [part.items[i : i + _CHUNK] for i in range(0, len(part), _CHUNK)]
        with reading_pool(self.workers) as pool:
            for _ in pool.map(self.reader, chunks, images.split(_CHUNK)):
                pass  # raises the exceptions of threads
        return Split(images, part.strata)


def open_folder(
    root: Path, image_size: int | None = None, *, val_from: str = "train", workers: int | None = None
) -> ImageFolder:
    """Open ``root/<train|val|test>/<class>/*`` and read the headers of its images.

    Images are read as greyscale if all files are, else as RGB. Images of one size keep it, unless
    ``image_size`` is given. Images of several sizes are resized to a shorter side of 8/7 of the size and
    cropped to the centre.

    Args:
        root: The folder; ``valid`` and ``validation`` are other names of ``val``. Only ``train`` must exist.
        image_size: Height and width, pixels. None keeps the images' size, or is 224 if sizes differ.
        val_from: As in :func:`part_folders`.
        workers: Threads that read files, at least 1; None is one for each core.

    Raises:
        ValueError: If there is no train folder, a class folder is empty or in one part only, an image cannot
            be read, or all of them do not fit into memory.
    """
    layout = "an image folder has train/<class>/*.png and optionally val/ and test/"
    folders = part_folders(root, layout, val_from)
    classes = _classes(folders)
    files = {part: [_images_in(folder / name) for name in classes] for part, folder in folders.items()}
    everything = [path for part in files.values() for paths in part for path in paths]
    with reading_pool(workers) as pool:
        chunks = [everything[i : i + _CHUNK] for i in range(0, len(everything), _CHUNK)]
        headers = sum(pool.map(_headers, chunks), Counter[Header]())
    mode = "L" if all(header.mode in ("1", "L") for header in headers) else "RGB"
    sizes = {header.size for header in headers}
    reader = _Reader.choose(mode, sizes, image_size)
    require_memory_for(
        headers, reader.size, len(mode), resize=reader.resize, source=str(root), workers=workers
    )
    parts: dict[SplitName, OnDisk[Path]] = {}
    for part, per_class in files.items():
        labels = torch.cat([torch.full((len(paths),), k) for k, paths in enumerate(per_class)])
        parts[part] = OnDisk(tuple(path for paths in per_class for path in paths), labels)
    notes = (f"Images of {len(sizes)} sizes were {reader}.",) if reader.resize else ()
    return ImageFolder(parts, tuple(classes), notes, reader, workers)


class _Reader:
    """Decode images to one mode and size.

    Args:
        mode: Pillow's mode, "L" or "RGB".
        size: Width and height of the results, pixels.
        resize: Length of the shorter side before the central crop, pixels; 0 does not resize or crop.
    """

    def __init__(self, mode: str, size: tuple[int, int], resize: int = 0) -> None:
        self.mode = mode
        self.size = size
        self.resize = resize

    @classmethod
    def choose(cls, mode: str, sizes: set[tuple[int, int]], image_size: int | None) -> _Reader:
        """Choose between the native size and resizing."""
        check_image_size(image_size)
        side = image_size or _DEFAULT_SIZE
        if len(sizes) > 1:
            return cls(mode, (side, side), round(side * _RESIZE_MARGIN))
        native = next(iter(sizes))
        if image_size is None or native == (side, side):
            return cls(mode, native)
        return cls(mode, (side, side), side)

    def empty(self, count: int) -> Tensor:
        """Allocate memory for images: (count, C, H, W) uint8."""
        width, height = self.size
        return torch.empty((count, len(self.mode), height, width), dtype=torch.uint8)

    def __call__(self, paths: Sequence[Path], images: Tensor) -> None:
        """Decode files into ``images``, (len(paths), C, H, W) uint8."""
        for image, path in zip(images.numpy(), paths, strict=True):
            image[:] = self._decode(path).transpose(2, 0, 1)

    def __str__(self) -> str:
        side, (width, height) = self.resize, self.size
        return f"resized to a shorter side of {side} pixels and cropped to the central {width}x{height}"

    def _decode(self, path: Path) -> np.ndarray:
        with naming_the_file(path), Image.open(path) as opened:
            image = opened.convert(self.mode)
        if self.resize:
            width, height = resized(image.size, self.resize)
            left, top = (width - self.size[0]) // 2, (height - self.size[1]) // 2
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + self.size[0], top + self.size[1]))
        return np.asarray(image).reshape(image.height, image.width, -1)


def _headers(paths: Sequence[Path]) -> Counter[Header]:
    """Count the headers of images."""
    headers: Counter[Header] = Counter()
    for path in paths:
        header = read_header(path)
        if header.mode.startswith(("I", "F")):
            raise ValueError(f"{path} has more than 8 bits per channel: convert the images to 8 bits first")
        headers[header] += 1
    return headers


def part_folders(root: Path, layout: str = "", val_from: str = "train") -> dict[SplitName, Path]:
    """Find the folders of the parts.

    Args:
        root: Folder that contains them.
        layout: Description of the expected layout, for the message.
        val_from: Name of the folder with val; "auto", "train" and "test" mean the usual one, if it exists.

    Raises:
        ValueError: If there is no train folder, a part exists under two names, or the folder with val does
            not exist.
    """
    folders: dict[SplitName, Path] = {}
    named = val_from not in USUAL_VAL
    if named and not (Path(val_from).name == val_from and (root / val_from).is_dir()):
        others = sorted({path.name for path in root.iterdir() if _is_class(path)} - set(USUAL_VAL))
        raise ValueError(unknown_name(f"part of {root} for val", val_from, (*USUAL_VAL, *others)))
    for part, names in _FOLDERS.items():
        names = (val_from,) if named and part == "val" else names
        existing = [root / name for name in names if (root / name).is_dir()]
        if len(existing) > 1:
            raise ValueError(f"{root} has both {existing[0].name}/ and {existing[1].name}/: keep one of them")
        if existing:
            folders[part] = existing[0]
    if "train" not in folders:
        raise ValueError(f"{root} has no train/ folder: {layout}")
    return folders


def _classes(folders: dict[SplitName, Path]) -> list[str]:
    found = {part: {p.name for p in folder.iterdir() if _is_class(p)} for part, folder in folders.items()}
    for part, folder in folders.items():
        differing = sorted(found[part] ^ found["train"])
        if differing:
            where = folder if differing[0] in found[part] else folders["train"]
            _images_in(where / differing[0])  # an empty folder is rather left over than a class
            raise ValueError(
                f"train/ and {folder.name}/ have different classes: {differing[0]!r} is only in {where}"
                + (f" ({len(differing)} classes differ)" if len(differing) > 1 else "")
            )
    if len(found["train"]) < 2:
        raise ValueError(f"{folders['train']} needs one folder per class, at least two")
    return sorted(found["train"])


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _images_in(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    if not paths:
        raise ValueError(f"the class folder {folder} has no images: fill it or remove it from every part")
    return paths
