"""Configuration of the data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CLASSIFICATION, SEGMENTATION = TASKS = ("classification", "segmentation")


@dataclass(frozen=True)
class DataConfig:
    """Set the images, and how they are split and normalised."""

    task: str = CLASSIFICATION
    """classification, segmentation, or package.module:Task for your own data, loss and metric, which excludes
    all other data options."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or a folder with train/<class>/*.png and optionally
    val/, test/; for segmentation a folder with train/images/*, train/masks/*.png."""
    data_root: Path = Path("data")
    """Folder in which torchvision stores the known data sets."""
    download: bool = False
    """Download a known data set that is missing."""
    val_from: Literal["train", "test"] = "train"
    """Part from which a missing validation part is split; use `test` if the weights were trained on all of
    train."""
    normalisation: str | None = None
    """Normalisation of pixels: the name of a data set such as cifar10 or imagenet; by default the data's
    usual one."""
    image_size: int | None = None
    """Height and width in pixels. By default the images' own size; 224 for a folder with images of several
    sizes (256 for segmentation)."""
    ignore_label: int = 255
    """For segmentation: pixels with this label are ignored."""
    balance_classes: bool = False
    """For segmentation: give rare classes larger weights in the loss, by median frequency balancing."""
