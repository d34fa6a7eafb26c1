"""What the interval of an accuracy drop promises: it holds the truth as often as it says, for any metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.tasks import (
    R2,
    Accuracy,
    ClassificationTask,
    Measurement,
    SegmentationTask,
    Split,
    TensorTask,
    measure,
)
from secateur.envs.tasks.intervals import drop_interval, meets

CLASSES = 3


class Answers(nn.Module):
    """Give what lies in some of the channels of the inputs."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channels].squeeze(-1).squeeze(-1)


def of_test(inputs: Tensor, targets: Tensor, metric: Any, loss: Any = F.mse_loss) -> TensorTask:
    few = (inputs[:2], targets[:2])
    return TensorTask(train=few, val=few, test=(inputs, targets), loss=loss, metric=metric)


def interval(task: Any, dense: nn.Module, pruned: nn.Module) -> tuple[float, float] | None:
    measured = [measure(model, task, "test", by_example=True, batch_size=64) for model in (dense, pruned)]
    return drop_interval(task, *measured)


def logits(right: Tensor, targets: Tensor) -> Tensor:
    """Give two outputs whose larger one is the target where ``right`` says so: (N, 2)."""
    return F.one_hot((targets + ~right) % 2, 2).float()


def accuracies(size: int, lost: float, won: float, generator: torch.Generator) -> TensorTask:
    """Draw examples of which a share is right in the first network only, and a share in the second only."""
    draw = torch.rand(size, generator=generator)
    targets = torch.randint(2, (size,), generator=generator)
    one, other = (draw < lost) | (draw > lost + won), draw >= lost
    inputs = torch.cat([logits(one, targets), logits(other, targets)], 1)[:, :, None, None]
    return of_test(inputs, targets, Accuracy(), F.cross_entropy)


def known(right: Tensor, loss: float) -> Measurement:
    """Say how a network was measured that is right where ``right`` says so."""
    example_statistics = torch.stack([right.long(), torch.ones(len(right), dtype=torch.int64)], 1)
    return Measurement(
        100 * float(right.double().mean()), loss, len(right), example_statistics=example_statistics
    )


@pytest.mark.parametrize(("size", "lost", "won"), [(30, 0.1, 0.05), (100, 0.02, 0.01), (1000, 0.04, 0.01)])
def test_the_interval_of_accuracies_holds_the_truth_in_at_least_95_percent(
    size: int, lost: float, won: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    task = accuracies(2, lost, won, generator)
    truth, held, widths = 100 * (lost - won), 0, []
    for _ in range(400):
        draw = torch.rand(size, generator=generator)
        one, other = (draw < lost) | (draw > lost + won), draw >= lost
        low, high = drop_interval(task, known(one, 0.1), known(other, 0.2)) or (0.0, 0.0)
        held += low <= truth <= high
        widths.append(high - low)
    assert held / 400 >= 0.93  # three standard deviations of a share of 0.95 are 0.033
    wald = 2 * 1.96 * 100 * ((lost + won - (lost - won) ** 2) / size) ** 0.5
    assert sum(widths) / 400 < 1.6 * wald


def regression(size: int, generator: torch.Generator) -> TensorTask:
    """Draw targets and two predictions of them, one of which is the worse."""
    targets, noise = torch.randn(size, 1, generator=generator), torch.randn(size, 2, generator=generator)
    found = targets + torch.tensor([0.3, 0.6]) * (noise + 0.5 * noise.flip(1))
    return of_test(found[:, :, None, None], targets, R2())


def segmentation(size: int, generator: torch.Generator) -> SegmentationTask:
    """Draw masks of patches, and images whose channels say the class, first well and then less so."""
    masks = torch.randint(CLASSES, (size, 1, 1), generator=generator).expand(-1, 6, 6).clone()
    masks[:, :, 3:] = torch.randint(CLASSES, (size, 1, 1), generator=generator)
    images = []
    for level in (0.15, 0.25):
        level_of_image = 2 * level * torch.rand(size, 1, 1, generator=generator)
        wrong = torch.rand(masks.shape, generator=generator) < level_of_image
        seen = torch.where(wrong, torch.randint(CLASSES, masks.shape, generator=generator), masks)
        images.append(F.one_hot(seen, CLASSES).permute(0, 3, 1, 2))
    split = Split.held((255 * torch.cat(images, 1)).byte(), masks.byte())
    splits: Any = dict.fromkeys(("train", "val", "test"), split)
    names = tuple(map(str, range(CLASSES)))
    return SegmentationTask("patches", splits, names, (0.0,) * 2 * CLASSES, (1.0,) * 2 * CLASSES)


FIRST, SECOND = Answers(0), Answers(1)
SEES, LESS = Answers(*range(CLASSES)), Answers(*range(CLASSES, 2 * CLASSES))


@pytest.mark.parametrize(
    ("make", "dense", "pruned"),
    [(regression, FIRST, SECOND), pytest.param(segmentation, SEES, LESS, marks=pytest.mark.slow)],
    ids=["R2", "mIoU"],
)
def test_the_bootstrap_holds_the_truth_of_metrics_that_are_no_shares(
    make: Callable[[int, torch.Generator], Any],
    dense: nn.Module,
    pruned: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secateur.envs.tasks.intervals._DRAWS", 200)
    generator = torch.Generator().manual_seed(0)
    large = make(20_000, generator)
    truth = measure(dense, large, "test").accuracy - measure(pruned, large, "test").accuracy
    assert truth > 1
    held = 0
    for _ in range(100):
        found = interval(make(60, generator), dense, pruned)
        assert found is not None
        held += found[0] <= truth <= found[1]
    assert held / 100 >= 0.89  # three standard deviations of a share of 0.95 are 0.065


@pytest.mark.parametrize(
    ("make", "model"),
    [(regression, FIRST), (segmentation, SEES), (lambda n, g: accuracies(n, 0.1, 0.1, g), Answers(0, 1))],
)
def test_a_network_differs_from_itself_by_nothing(make: Any, model: nn.Module) -> None:
    task = make(40, torch.Generator().manual_seed(0))
    assert interval(task, model, model) == (0.0, 0.0)


def test_networks_that_are_right_about_the_same_examples_are_not_the_same() -> None:
    task = accuracies(100, 0.0, 0.0, torch.Generator().manual_seed(0))
    task._sources["test"].inputs[:, 2:] *= 0.9
    low, high = interval(task, Answers(0, 1), Answers(2, 3)) or (0.0, 0.0)
    assert low == pytest.approx(-high)
    assert 1 < high < 4  # of 100 examples none differs, so about 3 of 100 others may


def test_swapped_networks_have_the_opposite_interval() -> None:
    task = accuracies(80, 0.2, 0.05, torch.Generator().manual_seed(1))
    low, high = interval(task, Answers(0, 1), Answers(2, 3)) or (0.0, 0.0)
    assert interval(task, Answers(2, 3), Answers(0, 1)) == pytest.approx((-high, -low))


def test_one_example_and_metrics_of_whole_batches_have_no_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    assert interval(regression(1, generator), FIRST, SECOND) is None
    task = regression(40, generator)
    whole = of_test(
        *task.batch("test", torch.arange(40)),
        metric=lambda outputs, targets: float(outputs.std(0, correction=0)),
    )
    assert interval(whole, FIRST, SECOND) is None


def test_statistics_that_are_large_are_kept_of_groups_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    task = segmentation(50, torch.Generator().manual_seed(0))
    monkeypatch.setattr("secateur.envs.tasks.measuring._MAX_STORED", 10 * CLASSES**2)
    measured = measure(SEES, task, "test", by_example=True)
    assert measured.example_statistics is not None
    assert len(measured.example_statistics) <= 14
    assert task.metric(measured.example_statistics.sum(0)) == measured.accuracy


@pytest.mark.parametrize(
    ("found", "met"),
    [((0.5, 1.9), "yes"), ((1.0, 2.0), "yes"), ((1.9, 2.1), "undecided"), ((2.0, 3.0), "undecided"),
     ((2.1, 3.0), "no"), ((-1.0, 0.0), "yes"), (None, "undecided")],
)  # fmt: skip
def test_a_bound_is_met_exceeded_or_undecided(found: tuple[float, float] | None, met: str) -> None:
    assert meets(found, 2.0) == met


def test_what_is_kept_of_examples_changes_no_figure(digit_task: ClassificationTask) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    plain, kept = (measure(model, digit_task, "test", by_example=known) for known in (False, True))
    assert plain == kept
    assert plain.example_statistics is None
    assert kept.example_statistics is not None
    assert len(kept.example_statistics) == kept.images
    assert isinstance(digit_task.splits["test"], Split)
