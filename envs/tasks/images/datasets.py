"""Load classification data from the name of a known data set or from an image folder.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision

from ...io.suggestions import did_you_mean, unknown_name
from ..base import SplitName
from .augmentation import Augmentation, resolve_augmentation
from .classification import ClassificationTask
from .folder import USUAL_VAL, open_folder, part_folders
from .image_files import check_image_size
from .normalisation import FOR_FOLDERS, Normalisation, resolve_normalisation
from .sources import Resident, Resized, Source
from .splits import VAL_FRACTION, Split, complete_splits, stratified_split, with_source
from .storage import Splits, Storage
from .user_transforms import Transform, load_transforms

# Digits have no test set. The split does not depend on a run's seed, so that seeds can be compared.
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0
_AT_A_TIME = 256  # images to resize


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
    train_transform: str | Transform | None = None,
    eval_transform: str | Transform | None = None,
    in_memory: str = "auto",
    workers: int | None = None,
    device: torch.device | str = "cpu",
) -> ClassificationTask:
    """Load data as a task with disjoint train, val and test parts.

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
        train_transform: Transform of a folder's training images, or its name ``package.module:thing``; with
            ``eval_transform`` it replaces resizing, augmentation and normalisation, see
            :class:`.user_transforms.Transforms`. None is ``eval_transform``.
        eval_transform: Transform of all other images, or its name.
        in_memory: "auto" holds images in memory if they fit by far and else reads them when they are needed,
            "always" holds them, "never" does not.
        workers: Processes that read images from disk, at least 0; None is one for each core but one.
        device: Device on which the images are given.

    Raises:
        ValueError: If the data are unknown, missing or unreadable, or an argument is out of its range.
    """
    check_image_size(image_size)
    storage = Storage(in_memory, workers, torch.device(device))
    dataset = _DATASETS.get(data)
    customary = Augmentation(dataset.flip, True) if dataset else Augmentation(False, False)
    augmentation = resolve_augmentation(augment, customary)
    share = default_val_fraction(data) if val_fraction is None else val_fraction
    complete = partial(complete_splits, val_from=val_from, val_fraction=share, seed=seed)
    transforms = load_transforms(train_transform, eval_transform)
    if transforms is not None:
        storage.check_transforms(normalisation=normalisation, image_size=image_size, augment=augment)
    notes: tuple[str, ...] = ()
    if dataset is not None:
        own = transforms is not None
        _check_known(data, val_from, own_transforms=own, on_disk=in_memory == "never" and image_size is None)
        given, classes = dataset.load(Path(root), download)
        splits, split_notes = complete(given)
        if image_size is None and in_memory == "never":
            raise ValueError(f"{data} is read into memory as a whole; leave out --in-memory never")
        if image_size is not None:
            splits = with_source(splits, partial(_resized, data, image_size, storage))
    elif Path(data).is_dir():
        folder = open_folder(
            Path(data), image_size, val_from=val_from, threads=storage.threads, as_stored=bool(transforms)
        )
        classes, notes = folder.classes, folder.notes
        splits, split_notes = complete(folder.parts)
        if transforms is None:
            splits = storage.keep(splits, folder.survey, data)
    else:
        raise ValueError(
            f"there is no data set and no folder {data!r}{did_you_mean(data, _DATASETS)}; "
            f"give {', '.join(_DATASETS)}, or a folder with train/<class>/*.png"
        )
    splits = with_source(splits, lambda source: source.to(device))
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    padding, where = 0, storage.on_disk()
    if transforms is not None:
        transforms = transforms.tried(splits["train"])
        notes = (*notes, transforms.note)
    else:
        if channels is not None:
            splits = with_source(splits, lambda source: source.with_channels(channels))
        mean, std = resolve_normalisation(normalisation or default_normalisation(data), splits["train"])
        where = storage.sentence(splits)
        padding = _padding(dataset if image_size is None else None, splits) if augmentation.crop else 0
    return ClassificationTask(
        data if dataset else Path(data).resolve().name, splits, classes, mean, std, padding,
        augmentation.flip, (*notes, *split_notes), workers=storage.processes, transforms=transforms,
        storage=where,
    )  # fmt: skip


def _padding(dataset: _Dataset | None, splits: Splits) -> int:
    """Return the border for random crops: that of a known data set, or an eighth of the images."""
    if dataset is not None:
        return dataset.padding
    shorter = min(splits["train"].source.shape[-2:])
    return max(1, round(shorter / 8))  # 4 pixels for images of 32, as usual for CIFAR


def _check_known(data: str, val_from: str, *, own_transforms: bool, on_disk: bool) -> None:
    """Refuse what only folders have."""
    if val_from not in USUAL_VAL:
        raise ValueError(unknown_name(f"part of {data} for val", val_from, USUAL_VAL))
    if own_transforms:
        raise ValueError(f"transforms of one's own are for image folders; leave them out for {data}")
    if on_disk:
        raise ValueError(f"{data} is read into memory as a whole; leave out --in-memory never")


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


def _resized(data: str, side: int, storage: Storage, source: Source) -> Source:
    """Resize all images to squares: at once if they fit into memory by far, else when they are read.

    Raises:
        ValueError: If they have to be held in memory and do not fit, or not even a few fit.
    """
    assert isinstance(source, Resident)
    resized = Resized(source, side)
    if not storage.is_resident(len(source), resized.shape, data):
        return resized
    images = torch.empty((len(source), *resized.shape), dtype=torch.uint8)
    for some in torch.arange(len(source)).split(_AT_A_TIME):
        images[some], _ = resized.read(some)
    return Resident(images, source.targets)


def _digits(root: Path, download: bool) -> tuple[dict[SplitName, Split], tuple[str, ...]]:
    from sklearn.datasets import load_digits  # imported here, as it takes a second

    bundle = load_digits()
    images = torch.from_numpy((bundle.images * (255 / 16)).round().astype(np.uint8))[:, None]
    everything = Split.held(images, torch.from_numpy(bundle.target).long())
    train, test = stratified_split(everything.targets, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
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
            remedy = "try again" if download else "give --download to download it"
            raise ValueError(f"{name} is not complete under {root} ({error}): {remedy}") from error
        return _parts_of(train, test), tuple(train.classes)

    return load


def _parts_of(*datasets: torchvision.datasets.VisionDataset) -> dict[SplitName, Split]:
    """Make one source of train and test, so that splits of it share their memory."""
    images = torch.cat([torch.as_tensor(dataset.data) for dataset in datasets])  # (N, H, W[, C]) uint8
    images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    source = Resident(images, torch.cat([torch.as_tensor(dataset.targets) for dataset in datasets]))
    indices = torch.arange(len(source)).split([len(dataset) for dataset in datasets])
    train, test = (Split(source, some) for some in indices)
    return {"train": train, "test": test}


_DATASETS = {
    "digits": _Dataset(_digits, padding=1, flip=False, val_fraction=0.25),
    "mnist": _Dataset(_from_torchvision("MNIST"), padding=2, flip=False),
    "fashion-mnist": _Dataset(_from_torchvision("FashionMNIST"), padding=2, flip=True),
    "cifar10": _Dataset(_from_torchvision("CIFAR10"), padding=4, flip=True),
    "cifar100": _Dataset(_from_torchvision("CIFAR100"), padding=4, flip=True),
}
