"""Folders of images, one folder per class.

Headers alone are read here: what is in memory, and who reads the pixels when, is decided later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ...io.suggestions import unknown_name
from ..base import SplitName
from .file_list import FileList, folders_in, images_under
from .image_files import Decoder, Survey, check_image_size, read_header, survey
from .on_disk import ImageFiles, Labels
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


@dataclass(frozen=True)
class ImageFolder:
    """An image folder whose headers have been read.

    Args:
        source: All images, with the classes as labels.
        parts: The images of each part.
        classes: Names of the classes, in the order of the labels.
        survey: The headers.
    """

    source: ImageFiles
    parts: dict[SplitName, Split]
    classes: tuple[str, ...]
    survey: Survey

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        decoder = self.source.decoder
        is_resized = decoder.size is not None and decoder.resize
        sizes = len(self.survey.sizes)
        which = f"Images of {sizes} sizes" if sizes > 1 else "Images"
        resized = f"{which} were {decoder}." if is_resized else ""
        return tuple(filter(None, (resized, self.survey.note)))


def open_folder(
    root: Path,
    image_size: int | None = None,
    *,
    val_from: str = "train",
    threads: int = 1,
    as_stored: bool = False,
) -> ImageFolder:
    """Open ``root/<train|val|test>/<class>/*`` and read the headers of its images.

    Images are read as greyscale if all files are, else as RGB. Images of one size keep it, unless
    ``image_size`` is given. Images of several sizes are resized to a shorter side of 8/7 of the size and
    cropped to the centre.

    Args:
        root: The folder; ``valid`` and ``validation`` are other names of ``val``. Only ``train`` must exist.
        image_size: Height and width, pixels. None keeps the images' size, or is 224 if sizes differ.
        val_from: As in :func:`part_folders`.
        threads: Threads that read files, at least 1.
        as_stored: Whether images keep their own sizes and are RGB, as torchvision's ``ImageFolder`` gives
            them, for transforms of one's own.

    Raises:
        ValueError: If there is no train folder, a class folder is empty or in one part only, or an image
            cannot be read.
    """
    check_image_size(image_size)
    layout = "an image folder has train/<class>/*.png and optionally val/ and test/"
    folders = part_folders(root, layout, val_from)
    classes = _classes(folders)
    counts: list[int] = []

    def names() -> Iterator[str]:
        for folder in folders.values():
            for name in classes:
                found = _images_in(folder / name)
                counts.append(len(found))
                where = f"{folder.name}/{name}/"
                yield from (where + image for image in found)

    files = FileList.of(root, names())
    labels = torch.arange(len(classes)).repeat(len(folders)).repeat_interleave(torch.tensor(counts))
    headers = survey(len(files), lambda index: read_header(files[index]), threads)
    decoder = Decoder("RGB") if as_stored else _decoder(headers, image_size)
    source = ImageFiles(files, Labels(labels), decoder, threads)
    of_part = torch.tensor(counts).view(len(folders), -1).sum(1).tolist()
    indices = torch.arange(len(files)).split(of_part)
    parts = {part: Split(source, some) for part, some in zip(folders, indices, strict=True)}
    return ImageFolder(source, parts, tuple(classes), headers)


def _decoder(headers: Survey, image_size: int | None) -> Decoder:
    """Choose between the native size and resizing."""
    side = image_size or _DEFAULT_SIZE
    if len(headers.sizes) > 1:
        return Decoder(headers.mode, (side, side), round(side * _RESIZE_MARGIN))
    native = next(iter(headers.sizes))
    if image_size is None or native == (side, side):
        return Decoder(headers.mode, native)
    return Decoder(headers.mode, (side, side), side)


_LAYOUT = "a folder of data has train/ and optionally val/ and test/"


def part_folders(root: Path, layout: str = _LAYOUT, val_from: str = "train") -> dict[SplitName, Path]:
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
        others = sorted(set(folders_in(root)) - set(USUAL_VAL))
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
    found = {part: set(folders_in(folder)) for part, folder in folders.items()}
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


def _images_in(folder: Path) -> list[str]:
    names = images_under(folder)
    if not names:
        raise ValueError(f"the class folder {folder} has no images: fill it or remove it from every part")
    return names
