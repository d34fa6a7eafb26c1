"""Tasks that are another task but for some members: what workers and copies make of them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from secateur.envs.tasks import Task
from secateur.envs.tasks.held_back import _PartOfVal
from secateur.envs.tasks.joined import with_val_in_train
from secateur.envs.tasks.user_task import MovedTask


class Plain:
    """A task with nothing but what every task has to have."""

    name, notes, input_shape, num_outputs = "plain", (), (2,), 2

    def size(self, split: str) -> int:
        return 4

    def batch(
        self, split: str, indices: Tensor, *, augment: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return torch.ones(len(indices), 2), indices


TASKS = [
    MovedTask(Plain(), torch.device("cpu")),  # type: ignore[arg-type]
    with_val_in_train(Plain()),  # type: ignore[arg-type]
    _PartOfVal(Plain(), torch.arange(2)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda task: pickle.loads(pickle.dumps(task))])
def test_a_task_is_copied_and_pickled_with_what_it_stands_on(task: Task, copied: object) -> None:
    other = copied(task)  # type: ignore[operator]
    assert other.name == "plain"
    assert other.size("val") == task.size("val")
    assert torch.equal(other.batch("val", torch.tensor([1]))[1], task.batch("val", torch.tensor([1]))[1])
    with pytest.raises(AttributeError, match="no_such"):
        _ = other.no_such
