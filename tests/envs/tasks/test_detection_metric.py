"""The average precision of boxes, against curves that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateur.envs.tasks import AveragePrecision, Metric

SQUARE, SHIFTED, ELSEWHERE = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [20.0, 20.0, 30.0, 30.0]
AP = AveragePrecision(("cat", "dog"))


def found(*rows: tuple[list[float], float, int]) -> dict[str, Tensor]:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def true(*rows: tuple[list[float], int]) -> dict[str, Tensor]:
    boxes, labels = zip(*rows, strict=True) if rows else ((), ())
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def percent(outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> float:
    return AP.value(AP.statistics(outputs, targets))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(SQUARE, 0.9, 1)], 100.0),
        ([(SHIFTED, 0.9, 1)], 100.0),  # an overlap of 0.8
        ([(ELSEWHERE, 0.9, 1)], 0.0),
        ([(SQUARE, 0.9, 2)], 0.0),  # another class
        ([(SQUARE, 0.9, 1), (ELSEWHERE, 0.5, 1)], 100.0),  # wrong, but with a lower score
        ([(SQUARE, 0.5, 1), (ELSEWHERE, 0.9, 1)], 50.0),
        ([(SQUARE, 0.9, 1), (SQUARE, 0.8, 1)], 100.0),  # the second is wrong, as the box is taken
        ([(SQUARE, 0.8, 1), (SHIFTED, 0.9, 1)], 100.0),  # the better score takes the box
        ([(SQUARE, 0.9, 7)], 0.0),  # a class without a name
        ([], 0.0),
    ],
)
def test_the_precision_of_one_image_with_one_box(
    rows: list[tuple[list[float], float, int]], expected: float
) -> None:
    assert percent([found(*rows)], [true((SQUARE, 1))]) == pytest.approx(expected)


def test_the_area_of_a_curve_with_three_points() -> None:
    # Right, wrong, right of two: precision 1 up to a recall of one half, then two thirds.
    outputs = [found((SQUARE, 0.9, 1), (ELSEWHERE, 0.8, 1)), found((SQUARE, 0.7, 1))]
    assert percent(outputs, [true((SQUARE, 1)), true((SQUARE, 1))]) == pytest.approx(
        100 * (0.5 + 0.5 * 2 / 3)
    )


def test_classes_count_alike_and_absent_ones_do_not() -> None:
    outputs = [found((SQUARE, 0.9, 1), (ELSEWHERE, 0.9, 2))]
    assert percent(outputs, [true((SQUARE, 1), (SQUARE, 2))]) == pytest.approx(50.0)
    statistics = AP.statistics(outputs, [true((SQUARE, 1))])
    assert AP.details(statistics) == {"cat": pytest.approx(100.0), "dog": None}
    assert AP.value(statistics) == pytest.approx(100.0)


def test_statistics_of_images_add_up() -> None:
    outputs = [found((SQUARE, 0.9, 1)), found(), found((ELSEWHERE, 0.3, 2), (SQUARE, 0.6, 1))]
    targets = [true((SQUARE, 1)), true(), true((ELSEWHERE, 2))]
    parts = [AP.statistics([o], [t]) for o, t in zip(outputs, targets, strict=True)]
    assert torch.equal(sum(parts), AP.statistics(outputs, targets))  # type: ignore[arg-type]


def test_labels_may_begin_with_zero() -> None:
    own = AveragePrecision(("cat",), first_label=0)
    assert own.value(own.statistics([found((SQUARE, 0.9, 0))], [true((SQUARE, 0))])) == pytest.approx(100.0)
    assert isinstance(own, Metric)
