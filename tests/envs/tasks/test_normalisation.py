"""Normalisations by name, by number, and by the statistics of the data."""

from __future__ import annotations

import pytest
import torch

from secateur.envs.tasks import ClassificationTask, Split
from secateur.envs.tasks.images.normalisation import resolve_normalisation


def blank(channels: int) -> Split:
    return Split.held(torch.zeros(2, channels, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))


def test_normalisations_come_by_name_and_by_number() -> None:
    assert resolve_normalisation("cifar10", blank(3))[0] == (0.4914, 0.4822, 0.4465)
    assert resolve_normalisation("mnist", blank(3)) == ((0.1307,) * 3, (0.3081,) * 3)
    assert resolve_normalisation("imagenet", blank(1))[0] == pytest.approx((0.449,))
    assert resolve_normalisation("half", blank(3)) == ((0.5,) * 3, (0.5,) * 3)
    assert resolve_normalisation("0.5/0.25", blank(2)) == ((0.5, 0.5), (0.25, 0.25))
    assert resolve_normalisation(((0.1, 0.2), (1.0, 2.0)), blank(2)) == ((0.1, 0.2), (1.0, 2.0))


def test_the_normalisation_by_the_data_gives_images_a_mean_of_0_and_a_deviation_of_1() -> None:
    images = torch.randint(40, 120, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] //= 2
    mean, std = resolve_normalisation("data", Split.held(images, torch.zeros(50, dtype=torch.int64)))
    pixels = (images / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.ones(3), atol=2e-3, rtol=0)
    assert resolve_normalisation("data", blank(1)) == ((0.0,), (1.0,))


def test_0_255_hands_pixels_on_as_they_are() -> None:
    mean, std = resolve_normalisation("0-255", blank(1))
    pixels = torch.arange(256, dtype=torch.uint8).view(64, 1, 2, 2)
    part = Split.held(pixels, torch.zeros(64, dtype=torch.int64))
    task = ClassificationTask("toy", {"train": part, "val": part, "test": part}, ("a", "b"), mean, std)
    inputs, _ = task.batch("val", torch.arange(64))
    torch.testing.assert_close(inputs, pixels.float())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("imagnet", r"did you mean 'imagenet'\?; give imagenet, .*, half, none, 0-255, data \(statistics of"),
        ("0.5/0", "positive deviation"),
        (((0.5, 0.5), (1.0, 1.0)), "each of 3 channels"),
    ],
)
def test_normalisations_that_make_no_sense_are_refused(wanted, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        resolve_normalisation(wanted, blank(3))
