"""Load classification data from the name of a known data set or from an image folder.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ..io.memory import require_memory
from ..io.suggestions import did_you_mean
from .base import SplitName
from .classification import ClassificationTask
from .folder import open_folder
from .image_files import check_image_size
from .normalisation import Normalisation, resolve_normalisation
from .splits import Split, complete_splits, stratified_split

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
    val_fraction: float = 0.1


def list_datasets() -> list[str]:
    """List the names of data sets that :func:`get_task` accepts."""
    return list(_DATASETS)


def get_task(
    data: str,
    *,
    root: Path,
    download: bool = False,
    val_from: Literal["train", "test"] = "train",
    val_fraction: float | None = None,
    seed: int = 0,
    normalisation: str | Normalisation | None = None,
    image_size: int | None = None,
) -> ClassificationTask:
    """Load data into memory as a task with disjoint train, val and test parts, on the CPU.

    Args:
        data: A name from :func:`list_datasets`, or an image folder with ``train/<class>/*`` and optionally
            ``val/`` and ``test/``.
        root: Folder in which torchvision stores the known data sets.
        download: Whether to download a known data set that is missing.
        val_from: Part from which a missing part is split: "train", or "test" in two halves.
        val_fraction: Share of train that becomes a missing part, in (0, 1); None is 0.1, or 0.25 for digits.
        seed: Seed for splitting.
        normalisation: As in :func:`.resolve_normalisation`; None is the data set's, or ImageNet's for a
            folder.
        image_size: Height and width, pixels. None keeps the images' size, or is 224 for a folder with images
            of several sizes.

    Raises:
        ValueError: If the data are unknown, missing or unreadable, or an argument is out of its range.
    """
    check_image_size(image_size)
    notes: tuple[str, ...] = ()
    if val_fraction is None:
        val_fraction = _DATASETS[data].val_fraction if data in _DATASETS else 0.1
    if data in _DATASETS:
        dataset = _DATASETS[data]
        given, classes = dataset.load(Path(root), download)
        splits, split_notes = complete_splits(given, val_from=val_from, val_fraction=val_fraction, seed=seed)
        if image_size is not None:
            splits = _resized(data, splits, image_size)
        padding, flip = dataset.padding, dataset.flip
    elif Path(data).is_dir():
        folder = open_folder(Path(data), image_size)
        classes, notes = folder.classes, folder.notes
        files, split_notes = complete_splits(
            folder.parts, val_from=val_from, val_fraction=val_fraction, seed=seed
        )
        splits = {name: folder.read(part) for name, part in files.items()}
        padding, flip = 0, True
    else:
        raise ValueError(
            f"there is no data set and no folder {data!r}{did_you_mean(data, _DATASETS)}; "
            f"give {', '.join(_DATASETS)}, or a folder with train/<class>/*.png"
        )
    channels, height, width = splits["train"].images.shape[1:]
    if data not in _DATASETS or image_size is not None:
        padding = max(1, round(min(height, width) / 8))  # 4 pixels for images of 32, as usual for CIFAR
    mean, std = resolve_normalisation(normalisation or (data if data in _DATASETS else "imagenet"), channels)
    name = data if data in _DATASETS else Path(data).resolve().name
    return ClassificationTask(name, splits, classes, mean, std, padding, flip, (*notes, *split_notes))


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
