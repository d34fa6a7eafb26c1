"""Folders of images and masks, read into memory.

Images are assigned to splits before their pixels are read, so that they are in memory once and never copied.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .augmentation import Augmentation, resolve_augmentation
from .base import SplitName
from .folder import part_folders
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
from .images import with_channels
from .normalisation import FOR_FOLDERS, Normalisation, resolve_normalisation
from .segmentation import SegmentationSplit, SegmentationTask, balanced_weights
from .splits import VAL_FRACTION, complete_splits

_LAYOUT = (
    "it needs train/images/*.jpg and train/masks/*.png with class indices, optionally also val/ and test/"
)
_NAMES = "classes.txt"
_DEFAULT_SIZE = 256
_INDEXED = ("L", "P", "1")
"""Pillow's modes of masks whose bytes are class indices."""


@dataclass(frozen=True)
class _Example:
    image: Path
    mask: Path


def load_segmentation(
    root: Path,
    *,
    ignore_label: int = 255,
    balance: bool = False,
    val_from: str = "train",
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    normalisation: str | Normalisation | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    augment: str = "auto",
    workers: int | None = None,
) -> SegmentationTask:
    """Read ``root/<train|val|test>/images/*`` and ``masks/*.png`` into a task, on the CPU.

    An image and its mask have the same name except for the suffix. The lines of ``root/classes.txt`` name the
    classes; without that file, the largest label gives their number, and they are numbered.

    Args:
        root: The folder; ``valid`` and ``validation`` are other names of ``val``. Only ``train`` must exist.
        ignore_label: Label of pixels that are ignored in loss and metric, in [0, 255].
        balance: Whether the loss gives rare classes larger weights, by median frequency balancing.
        val_from: Part from which val is taken: "train", "test" (one half of it), or the name of another
            sub-folder. "auto" is "train".
        val_fraction: Share of train that becomes a missing part, in (0, 1).
        seed: Seed for splitting.
        normalisation: As in :func:`.resolve_normalisation`; None is ImageNet's.
        image_size: Height and width, pixels: images are resized to this shorter side and cropped to the
            centre. None keeps the images' size, or is 256 if sizes differ.
        channels: Channels of the images, 1 or 3; None keeps those of the files.
        augment: Augmentation of training images: "none", "flip", "crop" (random scaling by 0.75 to 1.5 and
            cropping), or "flip-crop". "auto" is "none".
        workers: Threads that read files, at least 1; None is one for each core.

    Raises:
        ValueError: If a folder, an image or a mask is missing or unreadable, or does not fit the others, or
            all of them do not fit into memory.
    """
    if not 0 <= ignore_label <= 255:
        raise ValueError(f"the ignore label is {ignore_label}; masks hold 0 to 255")
    check_image_size(image_size)
    augmentation = resolve_augmentation(augment, Augmentation(False, False))
    parts = {part: _examples(folder) for part, folder in part_folders(root, _LAYOUT, val_from).items()}
    everything = [example for part in parts.values() for example in part.items]
    with reading_pool(workers) as pool:
        headers = Counter(pool.map(_header, everything))
    sizes = {header.size for header in headers}
    side = image_size or (_DEFAULT_SIZE if len(sizes) > 1 else None)
    mode = "L" if all(header.mode in ("1", "L") for header in headers) else "RGB"
    size = (side, side) if side else next(iter(sizes))
    require_memory_for(headers, size, len(mode) + 1, resize=side or 0, source=str(root), workers=workers)
    files, split_notes = complete_splits(parts, val_from=val_from, val_fraction=val_fraction, seed=seed)
    splits: dict[SplitName, SegmentationSplit] = {}
    largest: dict[_Example, int] = {}
    for name, part in files.items():
        width, height = size
        images = torch.empty(len(part), len(mode), height, width, dtype=torch.uint8)
        masks = torch.empty(len(part), height, width, dtype=torch.uint8)
        read = partial(_read, mode=mode, side=side, ignore_label=ignore_label)
        with reading_pool(workers) as pool:
            labels = pool.map(read, part.items, images.numpy(), masks.numpy())
            largest |= zip(part.items, labels, strict=True)
        splits[name] = SegmentationSplit(with_channels(images, channels), masks)
    classes = _classes(root, largest, ignore_label)
    mean, std = resolve_normalisation(normalisation or FOR_FOLDERS, splits["train"].images)
    weights = balanced_weights(splits["train"].masks, len(classes), ignore_label) if balance else ()
    notes = [f"Pixels with the label {ignore_label} are ignored."]
    if side is not None:
        notes.append(
            f"Images were resized to a shorter side of {side} pixels and cropped to a central square."
        )
    if balance:
        notes.append("The loss weighs classes by median frequency balancing.")
    return SegmentationTask(
        root.resolve().name,
        splits,
        classes,
        mean,
        std,
        ignore_label=ignore_label,
        class_weights=weights,
        scales=(0.75, 1.5) if augmentation.crop else (1.0, 1.0),
        flip=augmentation.flip,
        notes=(*notes, *split_notes),
    )


def _examples(part: Path) -> OnDisk[_Example]:
    """Pair the images of a part with its masks by name."""
    found = []
    for name in ("images", "masks"):
        folder = part / name
        if not folder.is_dir():
            raise ValueError(f"{part} has no {name}/ folder: {_LAYOUT}")
        files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
        found.append({path.stem: path for path in sorted(files)})
    images, masks = found
    if not images:
        raise ValueError(f"{part / 'images'} has no images: fill it or remove {part}")
    if unpaired := sorted(set(images) ^ set(masks)):
        what, path = ("image", images[unpaired[0]]) if unpaired[0] in images else ("mask", masks[unpaired[0]])
        other = "mask" if what == "image" else "image"
        raise ValueError(
            f"the {what} {path} has no {other} of the same name in {part / (other + 's')}"
            + (f" ({len(unpaired)} have none)" if len(unpaired) > 1 else "")
        )
    pairs = tuple(_Example(images[stem], masks[stem]) for stem in sorted(images))
    return OnDisk(pairs, torch.zeros(len(pairs), dtype=torch.int64))  # one stratum


def _header(example: _Example) -> Header:
    """Return the header of an image, and check that the mask matches it."""
    (mode, size), (mask_mode, mask_size) = (read_header(path) for path in (example.image, example.mask))
    if mode.startswith(("I", "F")):
        raise ValueError(f"{example.image} has more than 8 bits per channel: convert the images to 8 bits")
    if mask_mode not in _INDEXED:
        raise ValueError(
            f"the mask {example.mask} has the mode {mask_mode}: masks are PNGs with one 8-bit channel of "
            "class indices, convert colours to indices first"
        )
    if size != mask_size:
        raise ValueError(
            f"the mask {example.mask} has {mask_size[0]}x{mask_size[1]} pixels, its image "
            f"{size[0]}x{size[1]}: make the sizes equal"
        )
    return Header(mode, size)


def _read(
    example: _Example,
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    *,
    mode: str,
    side: int | None,
    ignore_label: int,
) -> int:
    """Decode an image into (C, H, W) and its mask into (H, W), and return the largest label not ignored."""
    pixels = np.asarray(_decoded(example.image, mode, side, Image.Resampling.BILINEAR))
    image[:] = pixels.reshape(*mask.shape, -1).transpose(2, 0, 1)
    mask[:] = np.asarray(_decoded(example.mask, None, side, Image.Resampling.NEAREST))
    return int(mask[mask != ignore_label].max(initial=0))


def _decoded(path: Path, mode: str | None, side: int | None, resampling: Image.Resampling) -> Image.Image:
    with naming_the_file(path), Image.open(path) as opened:
        opened.load()
        image = opened.copy() if mode is None else opened.convert(mode)
    if side is None:
        return image
    width, height = resized(image.size, side)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((width, height), resampling).crop((left, top, left + side, top + side))


def _classes(root: Path, largest: Mapping[_Example, int], ignore_label: int) -> tuple[str, ...]:
    """Read the names of the classes, or number them, and check that all labels have a class."""
    worst = max(largest, key=largest.__getitem__)
    highest = largest[worst]
    names = root / _NAMES
    if names.is_file():
        classes = tuple(
            line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()
        )
    else:
        classes = tuple(str(k) for k in range(highest + 1))
    if len(set(classes)) != len(classes):
        raise ValueError(f"{names} names a class twice; give each its own name")
    if highest >= len(classes):
        raise ValueError(
            f"the mask {worst.mask} has the label {highest}, but {names} names only "
            f"{len(classes)} classes: give --ignore-label {highest} to ignore it, or name all classes"
        )
    if len(classes) < 2:
        raise ValueError(
            f"the masks in {root} have no label but 0 and the ignore label {ignore_label}: masks hold "
            "one class index 0, 1, ... per pixel"
        )
    return classes
