"""Means and standard deviations for normalising images, by name or as numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ..io.suggestions import did_you_mean

Normalisation = tuple[Sequence[float], Sequence[float]]

# Mean and standard deviation of the training images in [0, 1], per channel: the values in common use.
PRESETS: dict[str, Normalisation] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "digits": ((0.3053,), (0.3760,)),
    "none": ((0.0,), (1.0,)),
}


def resolve_normalisation(
    normalisation: str | Normalisation, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for images with a number of channels.

    Args:
        normalisation: A name in :data:`PRESETS`; or means and deviations for pixels in [0, 1], one or one per
            channel; or the same as text, "0.49,0.48,0.45/0.25,0.24,0.26".
        channels: Channels of the images, at least 1. Grey images get the average over a preset's channels.

    Raises:
        ValueError: If the name is unknown, or the numbers do not match the channels.
    """
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


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) * (channels if len(values) == 1 else 1)


def _parsed(text: str) -> Normalisation:
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise ValueError(
            f"there is no normalisation {text!r}{did_you_mean(text, PRESETS)}; "
            f"give {', '.join(PRESETS)}, or mean/deviation as in 0.49,0.48,0.45/0.25,0.24,0.26"
        ) from None
    return mean, std
