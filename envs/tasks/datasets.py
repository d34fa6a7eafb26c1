"""Load classification data from the name of a known data set or from an image folder.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ..io.memory import require_memory
from ..io.suggestions import did_you_mean, unknown_name
from .augmentation import Augmentation, resolve_augmentation
from .base import SplitName
from .classification import ClassificationTask
from .folder import USUAL_VAL, open_folder, part_folders
from .image_files import check_image_size
from .images import with_channels
from .normalisation import FOR_FOLDERS, Normalisation, resolve_normalisation
from .splits import VAL_FRACTION, Split, complete_splits, stratified_split

# Digits have no test set. The split does not depend on a run's seed, so that seeds can be compared.
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0
# Pixels to resize at a time: some CPUs need a float32 copy of them.
_PIXELS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class _Dataset:
    """A known data set: how to load and augment it.

    Args:
        load: Function from root and download to the parts, train and test, and the names of the classes.
        padding: Border for random crops, pixels.
        flip: Whether flipping an image left to right keeps its class.
        val_fraction: Share of train that becomes val; larger for a small data set, where val is small.
    """

    load: Callable[[Path, bool], tuple[dict[SplitName, Split], tuple[str, ...]]]
    padding: int
    flip: bool
    val_fraction: float = VAL_FRACTION


def list_datasets() -> list[str]:
    """List the names of data sets that :func:`get_task` accepts."""
    return list(_DATASETS)


def get_task(
    data: str,
    *,
    root: Path,
    download: bool = False,
    val_from: str = "train",
    val_fraction: float | None = None,
    seed: int = 0,
    normalisation: str | Normalisation | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    augment: str = "auto",
    workers: int | None = None,
) -> ClassificationTask:
    """Load data into memory as a task with disjoint train, val and test parts, on the CPU.

    Args:
        data: A name from :func:`list_datasets`, or an image folder with ``train/<class>/*`` and optionally
            ``val/`` and ``test/``.
        root: Folder in which torchvision stores the known data sets.
        download: Whether to download a known data set that is missing.
        val_from: Part from which val is taken: "train", "test" (one half of it), or for a folder the name of
            another sub-folder. "auto" is "train".
        val_fraction: Share of train that becomes a missing part, in (0, 1); None is 0.1, or 0.25 for digits.
        seed: Seed for splitting.
        normalisation: As in :func:`.resolve_normalisation`; None is the data set's, or ImageNet's for a
            folder.
        image_size: Height and width, pixels. None keeps the images' size, or is 224 for a folder with images
            of several sizes.
        channels: Channels of the images, 1 or 3; None keeps those of the data.
        augment: Augmentation of training images: "none", "flip", "crop" (from the image with a black border
            of an eighth of its size), or "flip-crop". "auto" is what is customary for a known data set, and
            "none" for a folder.
        workers: Threads that read the files of a folder, at least 1; None is one for each core.

    Raises:
        ValueError: If the data are unknown, missing or unreadable, or an argument is out of its range.
    """
    check_image_size(image_size)
    dataset = _DATASETS.get(data)
    notes: tuple[str, ...] = ()
    customary = Augmentation(dataset.flip, True) if dataset else Augmentation(False, False)
    augmentation = resolve_augmentation(augment, customary)
    share = default_val_fraction(data) if val_fraction is None else val_fraction
    complete = partial(complete_splits, val_from=val_from, val_fraction=share, seed=seed)
    if dataset is not None:
        if val_from not in USUAL_VAL:
            raise ValueError(unknown_name(f"part of {data} for val", val_from, USUAL_VAL))
        given, classes = dataset.load(Path(root), download)
        splits, split_notes = complete(given)
        if image_size is not None:
            splits = _resized(data, splits, image_size)
    elif Path(data).is_dir():
        folder = open_folder(Path(data), image_size, val_from=val_from, workers=workers)
        classes, notes = folder.classes, folder.notes
        files, split_notes = complete(folder.parts)
        splits = {name: folder.read(part) for name, part in files.items()}
    else:
        raise ValueError(
            f"there is no data set and no folder {data!r}{did_you_mean(data, _DATASETS)}; "
            f"give {', '.join(_DATASETS)}, or a folder with train/<class>/*.png"
        )
    splits = {name: Split(with_channels(part.images, channels), part.labels) for name, part in splits.items()}
    padding = dataset.padding if dataset else 0
    if dataset is None or image_size is not None:
        shorter = min(splits["train"].images.shape[-2:])
        padding = max(1, round(shorter / 8))  # 4 pixels for images of 32, as usual for CIFAR
    mean, std = resolve_normalisation(normalisation or default_normalisation(data), splits["train"].images)
    return ClassificationTask(
        data if dataset else Path(data).resolve().name,
        splits,
        classes,
        mean,
        std,
        padding if augmentation.crop else 0,
        augmentation.flip,
        (*notes, *split_notes),
    )


def default_normalisation(data: str) -> str:
    """Return the name of the normalisation of a known data set, or that of folders."""
    return data if data in _DATASETS else FOR_FOLDERS


def default_val_fraction(data: str) -> float:
    """Return the share of train that becomes a missing part."""
    return _DATASETS[data].val_fraction if data in _DATASETS else VAL_FRACTION


def given_parts(data: str) -> set[SplitName]:
    """Return the parts that a known data set or a folder has, before any of them is split.

    Raises:
        ValueError: If it is neither, or a folder without train.
    """
    return {"train", "test"} if data in _DATASETS else set(part_folders(Path(data)))


def _resized(data: str, parts: Mapping[SplitName, Split], size: int) -> dict[SplitName, Split]:
    """Resize all images to squares, a batch at a time.

    Raises:
        ValueError: If they do not fit into memory.
    """
    images = sum(map(len, parts.values()))
    require_memory(
        images * parts["train"].images.shape[1] * size**2,
        f"the {images:,} images of {data}, {size}x{size} pixels each,",
        "give a smaller image size (--image-size), or a machine with more memory",
    )
    return {name: Split(_resized_images(part.images, size), part.labels) for name, part in parts.items()}


def _resized_images(images: Tensor, size: int) -> Tensor:
    resized_images = images.new_empty((*images.shape[:2], size, size))
    count = max(1, _PIXELS_AT_A_TIME // size**2)
    for batch, target in zip(images.split(count), resized_images.split(count), strict=True):
        target.copy_(resize(batch, [size, size], antialias=True))
    return resized_images


def _digits(root: Path, download: bool) -> tuple[dict[SplitName, Split], tuple[str, ...]]:
    from sklearn.datasets import load_digits  # imported here, as it takes a second

    bundle = load_digits()
    images = torch.from_numpy((bundle.images * (255 / 16)).round().astype(np.uint8))[:, None]
    everything = Split(images, torch.from_numpy(bundle.target).long())
    train, test = stratified_split(everything.labels, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
    parts: dict[SplitName, Split] = {"train": everything.take(train), "test": everything.take(test)}
    return parts, tuple(str(digit) for digit in bundle.target_names)


def _from_torchvision(
    name: str,
) -> Callable[[Path, bool], tuple[dict[SplitName, Split], tuple[str, ...]]]:
    """Make the loader of a torchvision data set that holds all images in ``data``."""

    def load(root: Path, download: bool) -> tuple[dict[SplitName, Split], tuple[str, ...]]:
        kind = getattr(torchvision.datasets, name)
        try:
            train, test = (kind(root, train=part, download=download) for part in (True, False))
        except (RuntimeError, OSError) as error:
            remedy = "try again" if download else "give --download (download=True) to download it"
            raise ValueError(f"{name} is not complete under {root} ({error}): {remedy}") from error
        parts: dict[SplitName, Split] = {"train": _split_of(train), "test": _split_of(test)}
        return parts, tuple(train.classes)

    return load


def _split_of(dataset: torchvision.datasets.VisionDataset) -> Split:
    images = torch.as_tensor(dataset.data)  # (N, H, W) or (N, H, W, C) uint8
    images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.as_tensor(dataset.targets))


_DATASETS = {
    "digits": _Dataset(_digits, padding=1, flip=False, val_fraction=0.25),
    "mnist": _Dataset(_from_torchvision("MNIST"), padding=2, flip=False),
    "fashion-mnist": _Dataset(_from_torchvision("FashionMNIST"), padding=2, flip=True),
    "cifar10": _Dataset(_from_torchvision("CIFAR10"), padding=4, flip=True),
    "cifar100": _Dataset(_from_torchvision("CIFAR100"), padding=4, flip=True),
}
