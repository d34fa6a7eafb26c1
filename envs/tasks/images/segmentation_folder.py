"""Folders of images and masks.

Headers alone are read here, and masks to count the classes: what is in memory is decided in :mod:`.storage`.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ...io.untrusted import read_text
from ..base import SplitName
from ..passes import DataError
from .augmentation import Augmentation, resolve_augmentation
from .file_list import FileList, is_image
from .folder import part_folders
from .image_files import Decoder, Header, check_image_size, read_header, survey
from .masks import INDEXED, MOST_MASKS, Masks, largest_label
from .normalisation import FOR_FOLDERS, Normalisation, resolve_normalisation
from .on_disk import ImageFiles
from .segmentation import SegmentationTask, balanced_weights, label_counts
from .sources import Source
from .splits import VAL_FRACTION, Split, complete_splits, with_source
from .storage import Splits, Storage
from .user_transforms import Transform, load_transforms

T = TypeVar("T")

_LAYOUT = (
    "it needs train/images/*.jpg and train/masks/*.png with class indices, optionally also val/ and test/"
)
_NAMES = "classes.txt"
_DEFAULT_SIZE = 256


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
    train_transform: str | Transform | None = None,
    eval_transform: str | Transform | None = None,
    in_memory: str = "auto",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> SegmentationTask:
    """Open ``root/<train|val|test>/images/*`` and ``masks/*.png`` as a task.

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
        train_transform: Transform of a training image and its mask; see :func:`.datasets.get_task`.
        eval_transform: Transform of all other images and their masks.
        in_memory: As in :func:`.datasets.get_task`.
        workers: As in :func:`.datasets.get_task`.
        device: Device on which the images are given.

    Raises:
        ValueError: If a folder, an image or a mask is missing or unreadable, or does not fit the others, or
            images that have to be held do not fit into memory.
    """
    if not 0 <= ignore_label <= 255:
        raise ValueError(f"the ignore label is {ignore_label}; masks hold 0 to 255")
    check_image_size(image_size)
    storage = Storage(in_memory, workers, torch.device(device))
    augmentation = resolve_augmentation(augment, Augmentation(False, False))
    transforms = load_transforms(train_transform, eval_transform)
    if transforms is not None:
        storage.check_transforms(normalisation=normalisation, image_size=image_size, augment=augment)
    images, masks, parts = _list(part_folders(root, _LAYOUT, val_from), root)
    headers = survey(len(images), partial(_header, images, masks), storage.threads)
    side = image_size or (_DEFAULT_SIZE if len(headers.sizes) > 1 else None)
    decoder = Decoder(headers.mode, (side, side) if side else next(iter(headers.sizes)), side or 0)
    if transforms is not None:
        decoder = Decoder("RGB")
    files = ImageFiles(images, Masks(masks, decoder, ignore_label), decoder, storage.threads)
    splits, split_notes = complete_splits(
        {part: Split(files, indices) for part, indices in parts.items()},
        val_from=val_from, val_fraction=val_fraction, seed=seed,
    )  # fmt: skip
    notes = [f"Pixels with the label {ignore_label} are ignored.", *filter(None, [headers.note])]
    if transforms is None:
        splits = storage.keep(splits, headers, str(root))
        if side is not None:
            notes.append(
                f"Images were resized to a shorter side of {side} pixels and cropped to a central square."
            )
    splits, classes, counted = _with_classes(root, splits, masks, ignore_label)
    if len(counted) < sum(map(len, splits.values())):
        notes.append(f"Classes were counted in {len(counted):,} masks, evenly spread.")
    weights: tuple[float, ...] = ()
    if balance:
        in_train = counted[torch.isin(counted, splits["train"].indices)]
        counts = torch.stack(_of_masks(splits["train"].source, in_train, label_counts))
        weights = balanced_weights(counts, len(classes), ignore_label)
        notes.append("The loss weighs classes by median frequency balancing.")
    splits = with_source(splits, lambda source: source.to(device))
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    where = storage.on_disk()
    if transforms is not None:
        transforms = transforms.tried(splits["train"])
        notes.append(transforms.note)
    else:
        if channels is not None:
            splits = with_source(splits, lambda source: source.with_channels(channels))
        mean, std = resolve_normalisation(normalisation or FOR_FOLDERS, splits["train"])
        where = storage.sentence(splits)
    return SegmentationTask(
        root.resolve().name, splits, classes, mean, std, ignore_label=ignore_label, class_weights=weights,
        scales=(0.75, 1.5) if augmentation.crop else (1.0, 1.0), flip=augmentation.flip,
        notes=(*notes, *split_notes), workers=storage.processes, transforms=transforms, storage=where,
    )  # fmt: skip


def _list(folders: dict[SplitName, Path], root: Path) -> tuple[FileList, FileList, dict[SplitName, Tensor]]:
    """List the images and masks of the parts, and the indices of each part."""
    images: list[str] = []
    masks: list[str] = []
    parts = {}
    for part, folder in folders.items():
        before = len(images)
        for image, mask in _pairs(folder):
            images.append(f"{folder.name}/images/{image}")
            masks.append(f"{folder.name}/masks/{mask}")
        parts[part] = torch.arange(before, len(images))
    return FileList.of(root, images), FileList.of(root, masks), parts


def _pairs(part: Path) -> list[tuple[str, str]]:
    """Pair the images of a part with its masks by name."""
    found = []
    for name in ("images", "masks"):
        folder = part / name
        if not folder.is_dir():
            raise ValueError(f"{part} has no {name}/ folder: {_LAYOUT}")
        names = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name))
        of_stem: dict[str, str] = {}
        for file in names:
            other = of_stem.setdefault(os.path.splitext(file)[0], file)  # noqa: PTH122
            if other != file:
                raise ValueError(f"{folder} has both {other} and {file}: keep one, as masks go by the name")
        found.append(of_stem)
    images, masks = found
    if not images:
        raise ValueError(f"{part / 'images'} has no images: fill it or remove {part}")
    if unpaired := sorted(set(images) ^ set(masks)):
        is_image_left = unpaired[0] in images
        what, other = ("image", "mask") if is_image_left else ("mask", "image")
        path = part / f"{what}s" / (images if is_image_left else masks)[unpaired[0]]
        raise ValueError(
            f"the {what} {path} has no {other} of the same name in {part / (other + 's')}"
            + (f" ({len(unpaired)} have none)" if len(unpaired) > 1 else "")
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _header(images: FileList, masks: FileList, index: int) -> Header:
    """Return the header of an image, and check that the mask matches it."""
    header, of_mask = read_header(images[index]), read_header(masks[index])
    if of_mask.mode not in INDEXED:
        raise ValueError(
            f"the mask {masks[index]} has the mode {of_mask.mode}: masks are PNGs with one 8-bit channel of "
            "class indices, convert colours to indices first"
        )
    if header.size != of_mask.size:
        (width, height), (w, h) = of_mask.size, header.size
        raise ValueError(
            f"the mask {masks[index]} has {width}x{height} pixels, its image {w}x{h}: make the sizes equal"
        )
    return header


def _with_classes(
    root: Path, splits: Splits, masks: FileList, ignore_label: int
) -> tuple[Splits, tuple[str, ...], Tensor]:
    """Find the classes, and return them and the indices of the masks in which they were counted.

    All masks in memory are looked at. Of those on disk some are, evenly spread; the others are checked when
    they are read.
    """
    source = splits["train"].source
    used = torch.cat([part.indices for part in splits.values()]).sort().values
    count = len(used) if source.is_resident else min(len(used), MOST_MASKS)
    counted = used[torch.arange(count) * len(used) // count]
    largest = torch.tensor(_of_masks(source, counted, partial(largest_label, ignore_label=ignore_label)))
    highest, place = largest.max(0)
    classes = _classes(root, int(highest), masks[int(counted[place])], ignore_label)

    def checked(source: Source) -> Source:
        if not isinstance(source, ImageFiles):
            return source
        assert isinstance(source.targets_on_disk, Masks)
        return replace(source, targets_on_disk=replace(source.targets_on_disk, classes=len(classes)))

    return with_source(splits, checked), classes, counted


def _of_masks(source: Source, indices: Tensor, compute: Callable[[Tensor], T]) -> list[T]:
    """Compute something of each mask, of those on disk as they are stored.

    Raises:
        ValueError: If a mask cannot be read.
    """
    if not isinstance(source, ImageFiles):
        return [compute(source.read_one(index)[1]) for index in indices.tolist()]
    read = source.targets_on_disk.read_one
    try:
        with ThreadPoolExecutor(source.threads) as pool:
            return list(pool.map(lambda index: compute(read(index)), indices.tolist()))
    except DataError as error:  # no job has begun that could be resumed
        raise ValueError(str(error)) from error


def _classes(root: Path, highest: int, mask: Path, ignore_label: int) -> tuple[str, ...]:
    """Read the names of the classes, or number them, and check that the highest label has one."""
    names = root / _NAMES
    if names.is_file():
        try:
            classes = tuple(line.strip() for line in read_text(names).splitlines() if line.strip())
        except ValueError as error:
            raise ValueError(f"{error}; save it as UTF-8, with a class in each line") from error
    else:
        classes = tuple(str(k) for k in range(highest + 1))
    if len(set(classes)) != len(classes):
        raise ValueError(f"{names} names a class twice; give each its own name")
    if highest >= len(classes):
        raise ValueError(
            f"the mask {mask} has the label {highest}, but {names} names only "
            f"{len(classes)} classes: give --ignore-label {highest} to ignore it, or name all classes"
        )
    if len(classes) < 2:
        raise ValueError(
            f"the masks in {root} have no label but 0 and the ignore label {ignore_label}: masks hold "
            "one class index 0, 1, ... per pixel"
        )
    return classes
