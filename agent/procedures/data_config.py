"""Which data a network is pruned on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ...envs.io.run_files import CONFIG
from ...envs.io.untrusted import first_line, read_yaml, short

CLASSIFICATION, SEGMENTATION = TASKS = ("classification", "segmentation")


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split and normalised."""

    task: str = CLASSIFICATION
    """classification, segmentation, or package.module:Task for one's own data, loss and metric, which
    excludes all other options of data."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or a folder with train/<class>/*.png and perhaps val/,
    test/; for segmentation a folder with train/images/*, train/masks/*.png."""
    data_root: Path = Path("data")
    """Where torchvision keeps the data sets that it knows."""
    download: bool = False
    """Fetch a known data set that is not there."""
    val_from: Literal["train", "test"] = "train"
    """Where a missing validation part is split from; `test` where the weights were trained on all of
    train."""
    normalisation: str | None = None
    """Of pixels: the name of a data set such as cifar10 or imagenet; by default the data's customary one."""
    image_size: int | None = None
    """Height and width in pixels; by default the images' own, 224 for a folder of images that differ (256 for
    segmentation)."""
    ignore_label: int = 255
    """Of segmentation: pixels of masks with this label count nowhere."""
    balance_classes: bool = False
    """Of segmentation: weigh rare classes more in the loss, by median frequency balancing."""


def read_data_config(folder: Path) -> DataConfig:
    """Read which data a run was given.

    Args:
        folder: Of a ``secateur prune`` run.

    Raises:
        ValueError: If its configuration does not say.
    """
    path = folder / CONFIG
    config = read_yaml(path)
    try:
        return _checked(config["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a prune run: {first_line(error)}") from error


def _checked(given: dict[str, Any]) -> DataConfig:
    """Turn what a run says of its data into what it was.

    Raises:
        ValueError: If a value is not of the type of its option.
    """
    values = {**given, "data_root": Path(given["data_root"])}
    kinds = get_type_hints(DataConfig)
    for key, value in values.items():
        kind = kinds.get(key, ())
        fits = value in get_args(kind) if get_origin(kind) is Literal else isinstance(value, kind)
        if not fits:
            raise ValueError(f"{short(str(key))} cannot be {short(repr(value))}")
    return DataConfig(**values)
