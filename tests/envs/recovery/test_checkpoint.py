"""What a checkpoint promises: training goes on as if it had never stopped, whatever befell the last file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tasks.joined import with_val_in_train
from secateur.envs.tasks.passes import DataError, Pass

CONFIG = RecoveryConfig(epochs=3, batch_size=32, distillation_weight=0.5)
STEPS = 6  # of an epoch


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(512, 10),
    )  # fmt: skip


class StopAt:
    """Ask for the end after so many steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


def train(
    task: ClassificationTask,
    checkpoint: Checkpoint | None,
    stop: int = 0,
    config: RecoveryConfig = CONFIG,
) -> tuple[nn.Module, Tensor]:
    model = small()
    summary = finetune(
        model, task, config, teacher=small(), seed=3, checkpoint=checkpoint, on_step=StopAt(stop)
    )
    return model, torch.tensor(summary.losses)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("stops", [[1], [4, 7, 1], [STEPS, STEPS], [2 * STEPS + 5], [3 * STEPS]])
def test_training_that_was_stopped_ends_as_if_it_had_not_been(
    few: ClassificationTask, stops: list[int], tmp_path: Path
) -> None:
    whole, losses = train(few, None)
    for stop in stops:
        with pytest.raises(Stopped):
            train(few, Checkpoint(tmp_path / "training"), stop)
    resumed, resumed_losses = train(few, Checkpoint(tmp_path / "training"))
    assert same(resumed, whole)
    assert torch.equal(resumed_losses, losses)


FEATURES: list[dict[str, Any]] = [
    {"ema_decay": 0.9},
    {"accumulation_steps": 2, "batch_size": 16},
    {"precision": "fp16"},  # with the state of the loss's scale
    {"optimiser": "adamw", "max_grad_norm": 0.5},
    {"schedule": "rewinding", "warmup": 0.5},
    {"distillation": "relational"},
    {"label_smoothing": 0.1},
    {"ema_decay": 0.9, "accumulation_steps": 2, "batch_size": 16, "precision": "fp16"},
]


@pytest.mark.parametrize("options", FEATURES, ids=str)
def test_training_with_any_recipe_ends_as_if_it_had_not_been_stopped(
    few: ClassificationTask, options: dict[str, Any], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, **options)
    whole, losses = train(few, None, config=config)
    for stop in (2, STEPS + 3, 2 * STEPS - 5):  # the last one right after the last step
        with pytest.raises(Stopped):
            train(few, Checkpoint(tmp_path / "training"), stop, config)
    resumed, resumed_losses = train(few, Checkpoint(tmp_path / "training"), config=config)
    assert same(resumed, whole)
    assert torch.equal(resumed_losses, losses)
    again, _ = train(few, Checkpoint(tmp_path / "training"), stop=1, config=config)
    assert same(again, whole)


def test_training_on_val_too_ends_as_if_it_had_not_been_stopped(
    few: ClassificationTask, tmp_path: Path
) -> None:
    joined: Any = with_val_in_train(few)
    whole, _ = train(joined, None)
    for stop in (3, 9):
        with pytest.raises(Stopped):
            train(joined, Checkpoint(tmp_path / "training"), stop)
    assert same(train(joined, Checkpoint(tmp_path / "training"))[0], whole)


def test_a_process_that_is_killed_loses_what_came_after_the_last_state(
    few: ClassificationTask, tmp_path: Path
) -> None:
    """Killed is what nothing is done about: an exception that is none of ours stands for it."""

    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 4):
            raise Killed

    whole, _ = train(few, None)
    with pytest.raises(Killed):
        finetune(
            small(), few, CONFIG, teacher=small(), seed=3, on_step=kill,
            checkpoint=Checkpoint(tmp_path / "training", seconds=0.0),
        )  # fmt: skip
    assert same(train(few, Checkpoint(tmp_path / "training"))[0], whole)


def test_finished_training_is_not_repeated(few: ClassificationTask, tmp_path: Path) -> None:
    whole, losses = train(few, Checkpoint(tmp_path / "training"))
    again, same_losses = train(few, Checkpoint(tmp_path / "training"), stop=1)  # there is no step to stop at
    assert same(again, whole)
    assert torch.equal(losses, same_losses)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda _: b""])
def test_of_a_damaged_state_the_one_before_is_taken(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    for number in (1, 2, 3):
        checkpoint.save({"number": number, "tensor": torch.full((4,), number)})
    assert (checkpoint.load() or {})["number"] == 3
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert (checkpoint.load() or {})["number"] == 2
    checkpoint.previous.write_bytes(damage(checkpoint.previous.read_bytes()))
    assert checkpoint.load() is None


def test_a_state_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.save({"number": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("secateur.envs.recovery.checkpoint.hashlib.sha256", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save({"number": 2})
    assert (checkpoint.load() or {})["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


class Breaking:
    """A task whose data break at the second of the four passes of a step."""

    def __init__(self, task: ClassificationTask) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loader(self, passed: Pass) -> Iterator[Any]:
        for number, batch in enumerate(self._task.loader(passed), start=passed.first):
            if number == 5:
                raise DataError("img.png vanished")
            yield batch


def test_data_that_break_in_the_middle_of_a_step_leave_no_trace(
    tmp_path: Path, few: ClassificationTask
) -> None:
    config = RecoveryConfig(epochs=2, batch_size=16, accumulation_steps=4)
    whole, resumed = small(), small()
    finetune(whole, few, config)
    with pytest.raises(DataError, match="vanished"):
        finetune(resumed, Breaking(few), config, checkpoint=Checkpoint(tmp_path / "training"))
    finetune(resumed, few, config, checkpoint=Checkpoint(tmp_path / "training"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_killed_training_goes_on_with_what_its_callback_changed_before_the_checkpoint(
    few: ClassificationTask, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def train_with(checkpoint: Checkpoint | None, kill_at: int) -> nn.Module:
        model = small()

        def shrink(progress: Progress) -> None:
            if progress.finished_steps == kill_at + 1:
                raise Killed
            if progress.finished_steps == 3:
                with torch.no_grad():
                    model[0].weight.mul_(0.5)

        finetune(model, few, CONFIG, seed=3, checkpoint=checkpoint, on_step=shrink)
        return model

    with pytest.raises(Killed):
        train_with(Checkpoint(tmp_path / "training", seconds=0), kill_at=3)
    assert same(train_with(Checkpoint(tmp_path / "training"), kill_at=-1), train_with(None, kill_at=-1))
