"""Options of the data that a network is pruned on."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NoReturn

from tyro.conf import Suppress

from ...envs.io.run_files import CONFIG
from ...envs.io.untrusted import first_line
from ..run.flat_options import from_flat, read_config

CLASSIFICATION, SEGMENTATION = TASKS = ("classification", "segmentation")

OF_ANY_TASK = ("task", "device")
"""Options that a task of the user's own takes, too."""

OTHER_CHANNELS = {1: 3, 3: 1}
"""Numbers of channels that images are converted between."""

FOUND_OUT = ("val_from", "val_reason", "channels")
"""Options that the program finds out if they are not given, and records in the run's ``config.yaml``."""


@dataclass(frozen=True)
class DataConfig:
    """Data: the task, the images, their splits and normalisation.

    Raises:
        ValueError: If the name of the data is empty.
    """

    task: str = CLASSIFICATION
    """Type of task: classification, segmentation, or package.module:Task; that is a user-defined class with
    its own data, loss and metric, which excludes all other data options."""

    data: str = "digits"
    """Data set: digits, mnist, fashion-mnist, cifar10, cifar100, or a folder with train/<class>/*.png and
    optionally val/ and test/; for segmentation a folder with train/images/* and train/masks/*.png."""
    data_root: Path = Path("data")
    """Folder of torchvision's data sets."""
    download: bool = False
    """Download the data set if it is missing."""
    val_from: str = "auto"
    """Origin of val: auto, train or test; val has the search's images. train includes a
    folder's val/; test is split in halves, the other is for the report; another sub-folder of the data will
    do, too. auto is test if the weights know the images of train or val/, else train."""
    normalisation: str | None = None
    """Pixel normalisation, such as imagenet, data or none; that of the network's training: the name of a data
    set, data (statistics of train), half (0.5/0.5), none (pixels in 0 to 1), 0-255, or numbers as in
    0.49,0.48,0.45/0.25,0.24,0.26; by default that of the data set, imagenet for a folder."""
    augment: str = "auto"
    """Augmentation of training images: none, flip, crop, flip-crop, or auto; auto is what is customary for a
    known data set and none for a folder."""
    image_size: int | None = None
    """Height and width of the images, pixels; by default unchanged, or for a folder with images of different
    sizes 224 (segmentation 256)."""
    ignore_label: int = 255
    """Mask label of ignored pixels; in segmentation."""
    balance_classes: bool = False
    """Let rare classes count more in segmentation; the weights of classes in the loss are those of median
    frequency balancing."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1 or auto; auto is the GPU if there is one."""
    workers: int | None = None
    """Processes that read images from disk, at least 0; 0 reads them in the process itself; by default one
    for each core but one, which trains."""
    in_memory: Literal["auto", "always", "never"] = "auto"
    """Whether images are held in memory; auto holds them if they fit by far, else reads them when they are
    needed."""
    train_transform: str | None = None
    """Transform of training images, package.module:thing; such as a Compose of torchvision.transforms.v2, for
    an image folder. It takes the decoded image (in segmentation also the mask), gives float32, and replaces
    resizing, augmentation and normalisation; by default that of all other images."""
    eval_transform: str | None = None
    """Transform of all other images, package.module:thing; has to be given with the one for training."""
    channels: Suppress[int | None] = None
    """Channels of the images, 1 or 3, if the network takes another number than the files have. The program
    finds it out and records it."""
    val_reason: Suppress[str] = ""
    """Why auto took val from test, for the report. The program finds it out and records it."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("the name of the data is empty; give a data set such as digits, or a folder")


def is_own_task(task: str) -> bool:
    """Return whether a task is the user's own, with its own data, by its name."""
    return ":" in task


def refuse_data_option(task: str, flag: str) -> NoReturn:
    """Refuse an option of the data with a task of the user's own.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"the task {task} brings its own data; leave out {flag}")


def read_data_config(folder: Path) -> DataConfig:
    """Read the data options of a run.

    Args:
        folder: Folder of a ``secateur prune`` run.

    Raises:
        ValueError: If its ``config.yaml`` does not have them.
    """
    names = {option.name for option in fields(DataConfig)}
    given = {name: value for name, value in read_config(folder).items() if name in names}
    try:
        if not given:
            raise ValueError("it has no data options")
        return from_flat(DataConfig, given)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} does not describe a prune run: {first_line(error)}") from error
