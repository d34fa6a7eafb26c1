"""Names of the augmentations of training images."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from ...io.suggestions import unknown_name

Augment = Literal["auto", "none", "flip", "crop", "flip-crop"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augment)


class Augmentation(NamedTuple):
    """An augmentation of training images.

    Args:
        flip: Whether to flip left to right, with probability 0.5.
        crop: Whether to crop at random: for classification from the image with a black border, for
            segmentation from the image scaled at random.
    """

    flip: bool
    crop: bool


def resolve_augmentation(name: str, customary: Augmentation) -> Augmentation:
    """Return the augmentation that a name stands for.

    Args:
        name: One of :data:`AUGMENTATIONS`.
        customary: What ``auto`` stands for.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(unknown_name("augmentation", name, AUGMENTATIONS))
    return customary if name == "auto" else Augmentation("flip" in name, "crop" in name)
