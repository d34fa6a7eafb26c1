"""Training and measuring that several ranks share: what one process would have computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.recovery import data_parallel
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.recovery.data_parallel import sharing_notes, synchronised_batchnorm
from support.rank_work import (
    average_without_reestimation,
    gradients_of,
    measured,
    measured_stream,
    train,
    train_on_vanishing_data,
    train_with,
    train_with_callbacks,
)
from support.ranks import on_ranks


def close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> bool:
    return all(torch.allclose(one[name], other[name], atol=tolerance, rtol=0) for name in one)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return close(one, other, 0.0)


@pytest.mark.parametrize(("examples", "number"), [(12, 2), (7, 3), (1, 2)])
def test_loss_and_gradients_of_ranks_are_those_of_one_process(examples: int, number: int) -> None:
    loss, gradients = gradients_of(examples)
    for found, shared in on_ranks(gradients_of, examples, number=number):
        assert found == pytest.approx(loss, abs=1e-12)
        assert shared.keys() == gradients.keys()
        assert "other.weight" not in shared  # its answer does not count
        assert close(gradients, shared, 1e-12)


def test_two_ranks_train_the_network_that_one_process_trains() -> None:
    alone, (first, second) = train(), on_ranks(train)
    assert same(first["weights"], second["weights"])
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert close(alone["weights"], first["weights"], 1e-5)


@pytest.mark.parametrize("number", [1, 3])
def test_a_training_stopped_on_two_ranks_goes_on_with_another_number(tmp_path: Path, number: int) -> None:
    whole, path = train(), tmp_path / "checkpoint"
    stopped = on_ranks(train, path, (4, 1))  # it is rank 1 that is told to stop
    assert [each["steps"] for each in stopped] == [4, 4]
    for each in on_ranks(train, path, number=number) if number > 1 else [train(path)]:
        assert each["steps"] == 2
        assert close(whole["weights"], each["weights"], 1e-5)


def test_a_resumed_training_on_as_many_ranks_is_the_undisturbed_one_bit_by_bit(tmp_path: Path) -> None:
    options = {"dropout": 0.3, "batchnorm": True}
    undisturbed = on_ranks(train_with, options)
    on_ranks(train_with, {**options, "checkpoint": tmp_path / "checkpoint", "stop": (4, 0)})
    resumed = on_ranks(train_with, {**options, "checkpoint": tmp_path / "checkpoint"})
    assert resumed[0]["steps"] == 2
    for one, other in zip(undisturbed, resumed, strict=True):
        assert same(one["weights"], other["weights"])  # dropout and running statistics, too
    assert same(resumed[0]["weights"], resumed[1]["weights"])


def test_ranks_measure_what_one_process_measures_bit_by_bit() -> None:
    alone = measured()
    for found in on_ranks(measured, number=3):
        statistics = found.pop("example_statistics"), found.pop("labels")
        assert torch.equal(statistics[0], alone["example_statistics"])
        assert torch.equal(statistics[1], alone["labels"])
        assert found == {name: alone[name] for name in found}


@pytest.mark.parametrize("limit", [None, 120])
def test_ranks_measure_a_stream_as_one_process_does(limit: int | None) -> None:
    alone = measured_stream(limit)
    for found in on_ranks(measured_stream, limit):
        assert torch.equal(found.pop("example_statistics"), alone["example_statistics"])
        assert torch.equal(found.pop("labels"), alone["labels"])
        assert found == {name: alone[name] for name in found}


def test_a_callback_that_ends_the_training_on_one_rank_ends_it_on_all() -> None:
    (first, _, weights), (second, _, others) = on_ranks(train_with_callbacks, "steps")
    assert (first, second) == (3, 3)
    assert weights == others


def test_a_callback_of_one_rank_alone_gets_the_accuracy_on_val() -> None:
    (calls, accuracies, weights), (none, _, others) = on_ranks(train_with_callbacks, "epochs of rank 0")
    assert (calls, none) == (2, 0)
    assert accuracies.count(",") == 1
    assert weights == others


def test_ranks_keep_the_same_average_of_running_statistics() -> None:
    first, second = on_ranks(average_without_reestimation)
    assert first == second


def test_data_that_one_rank_cannot_read_end_the_training_of_all_and_it_can_be_resumed(tmp_path: Path) -> None:
    found = on_ranks(train_on_vanishing_data, tmp_path / "checkpoint")
    assert found == ["DataError: img.png vanished"] * 2
    state = Checkpoint(tmp_path / "checkpoint").load()
    assert state is not None
    assert state["step"] == 2


def test_batchnorm_on_gpus_is_replaced_during_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.BatchNorm2d):
        """A subclass may do more, which torch's conversion would lose."""

    model = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm1d(3)), Own(2))
    before = list(model.modules())
    monkeypatch.setattr(data_parallel, "ranks", lambda: 2)
    monkeypatch.setattr(data_parallel, "_is_on_gpu", lambda model: True)
    with synchronised_batchnorm(model):
        kinds = [type(module) for module in (model[0], model[1][0], model[2])]
        assert kinds == [nn.SyncBatchNorm, nn.SyncBatchNorm, Own]
        assert model[0].weight is before[1].weight
        assert model[0].running_mean is before[1].running_mean
    assert list(model.modules()) == before


def test_the_report_says_what_each_rank_does_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert sharing_notes(model) == ()
    monkeypatch.setattr(data_parallel, "ranks", lambda: 2)
    assert "2 processes" in sharing_notes(model)[0]
    assert "by itself" in sharing_notes(model)[0]
    assert "by itself" not in sharing_notes(model[0])[0]
