"""How long a training will take, from a few of its steps."""

import contextlib
import itertools
import time

import torch
from torch import nn

from ..modules.copying import replica
from ..modules.ranks import rank, ranks
from ..tasks.base import Task
from ..tasks.passes import Pass, stream
from .batching import Batching
from .config import RecoveryConfig
from .finetuning import make_step, training_setup
from .training_state import TrainingState

_SECONDS = 1.0
"""Steps are timed until they have taken so long."""

_STEPS = 5
"""Most steps that are timed."""


def training_seconds(
    model: nn.Module, task: Task, config: RecoveryConfig, *, teacher: nn.Module | None = None
) -> float:
    """Estimate how long :func:`.finetune` takes, by timing up to five steps of a copy of the network.

    Args:
        model: The network, on the task's device; it is not changed.
        task: The task with the training images and the loss.
        config: Settings of the training.
        teacher: Network whose outputs are distilled, or None.

    Returns:
        Seconds for all epochs, without what callbacks do.
    """
    recipe, batching, size = config.recipe, Batching.of(task, config), task.size("train")
    model = replica(model)
    teacher = replica(teacher) if teacher is not None and config.distillation_weight else None
    state = TrainingState(model, config, batching.steps, seed=0)
    generator = torch.Generator().manual_seed(0)
    passes = batching.steps * batching.passes
    images = min(batching.images, size)
    batches = torch.randint(size, (min(_STEPS, passes) + 1, images), generator=generator)
    epochs = batches.split(size // images)  # a pass of a stream has no more
    examples = itertools.chain.from_iterable(
        stream(task, Pass("train", epoch.unbind(), True, rank=rank(), ranks=ranks())) for epoch in epochs
    )
    times: list[float] = []
    with training_setup(model, teacher, task) as layout, torch.random.fork_rng():
        step = make_step(model, teacher, task, config, layout)
        began = time.perf_counter()
        for inputs, targets in examples:
            with contextlib.suppress(FloatingPointError):  # the training says where it is
                state.begin_step()
                state.add(step(inputs.contiguous(memory_format=layout), targets))
                state.take_step()
            times.append(time.perf_counter() - began)
            if sum(times[1:]) >= _SECONDS:
                break
            began = time.perf_counter()
    times = times[1:]  # the first pass allocates memory and chooses kernels
    return recipe.epochs * passes * sum(times) / len(times)
