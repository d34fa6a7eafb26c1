"""Means and standard deviations for normalising images, by name or as numbers.

Shapes: C channels, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ...io.suggestions import did_you_mean
from .splits import Split

Normalisation = tuple[Sequence[float], Sequence[float]]

DATA = "data"
"""Name of the normalisation by the statistics of the training images."""

# Mean and standard deviation of the training images in [0, 1], per channel: the values in common use.
PRESETS: dict[str, Normalisation] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "digits": ((0.3053,), (0.3760,)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
    "0-255": ((0.0,), (1 / 255,)),
}

FOR_FOLDERS = "imagenet"
"""Name of the default normalisation of images from a folder."""

CUSTOMARY = ("imagenet", DATA, "half", "none", "0-255")
"""Names of the normalisations that training scripts use for any data."""

_MOST_VALUES, _AT_A_TIME = 2**28, 2**22
"""Largest number of values for the statistics of images, which take half a second, and of one pass."""

_MOST_READ = 2_000
"""Largest number of images that are read from disk for them."""


def resolve_normalisation(
    normalisation: str | Normalisation, train: Split
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for the channels of images.

    Args:
        normalisation: A name in :data:`PRESETS`; or ``data`` for the statistics of the training images; or
            means and deviations for pixels in [0, 1], one or one per channel; or the same as text,
            "0.49,0.48,0.45/0.25,0.24,0.26".
        train: The training images. Grey ones get the average over a preset's channels.

    Raises:
        ValueError: If the name is unknown, or the numbers do not match the channels.
    """
    channels = train.source.shape[0]
    if normalisation == DATA:
        return image_statistics(train)
    if isinstance(normalisation, str):
        mean, std = PRESETS[normalisation] if normalisation in PRESETS else _parsed(normalisation)
        if channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    else:
        mean, std = normalisation
    if not ({len(mean), len(std)} <= {1, channels} and min(std) > 0):
        raise ValueError(
            f"normalisation needs one mean and one positive deviation for each of {channels} channels, "
            f"got {tuple(mean)} and {tuple(std)}"
        )
    return _per_channel(mean, channels), _per_channel(std, channels)


def image_statistics(part: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel, for pixels in [0, 1].

    Args:
        part: The images; if they are very many, some are taken, evenly spread.

    Returns:
        C means in [0, 1] and C deviations, rounded to four digits; a constant channel has the deviation 1.
    """
    values = math.prod(part.source.shape)
    step = max(1, len(part) * values // _MOST_VALUES)
    if not part.source.is_resident:
        step = max(step, math.ceil(len(part) / _MOST_READ))
    chosen = torch.arange(0, len(part), step)
    counts = torch.zeros(part.source.shape[0], 256, dtype=torch.float64)
    for some in chosen.split(max(1, _AT_A_TIME // values)):
        images, _ = part.read(some)
        levels_of = [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
        counts += torch.stack(levels_of).cpu()
    shares, levels = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ levels
    std = (shares @ levels.square() - mean.square()).clamp_min(0).sqrt()
    std = torch.where(std < 5e-5, 1.0, std)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) * (channels if len(values) == 1 else 1)


def _parsed(text: str) -> Normalisation:
    names = [*PRESETS, DATA]
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise ValueError(
            f"there is no normalisation {text!r}{did_you_mean(text, names)}; give {', '.join(names)} "
            "(statistics of train), or mean/deviation as in 0.49,0.48,0.45/0.25,0.24,0.26"
        ) from None
    return mean, std
