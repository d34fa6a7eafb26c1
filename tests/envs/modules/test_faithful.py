"""A copy that leans on the original is refused with the cause, and the check leaves no trace."""

from __future__ import annotations

import random
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.copying import replica
from secateur.envs.modules.faithful import check_faithful
from secateur.envs.modules.restoring import Snapshot

INPUTS = (torch.zeros(2, 3, 5, 5),)


class Skip(nn.Module):
    """A network whose forward pass reads what a hook of one of its parts has caught."""

    registry: ClassVar[weakref.WeakValueDictionary[str, Skip]] = weakref.WeakValueDictionary()

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.caught: dict[str, Any] = {}
        Skip.registry["newest"] = self

    def forward(self, x: Tensor) -> Tensor:
        deep = self.encoder(x)
        return self.decoder(self.caught["skip"] + deep.tanh())

    def catch(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.caught["skip"] = output


class ReadsGlobally(Skip):
    def forward(self, x: Tensor) -> Tensor:
        deep = self.encoder(x)
        return self.decoder(net.caught["skip"] + deep.tanh())


class ComputesGlobally(Skip):
    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(net.encoder(x))


net: Skip


def write_globally(module: nn.Module, inputs: Any, output: Tensor) -> None:
    net.caught["skip"] = output


def write_to_the_newest(module: nn.Module, inputs: Any, output: Tensor) -> None:
    Skip.registry["newest"].caught["skip"] = output


def made(kind: type[Skip], hook: Callable[..., None] | None = None, *, has_run: bool = True) -> Skip:
    global net
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = kind()
    net.encoder.register_forward_hook(hook or net.catch)
    if has_run:
        net(*INPUTS)
        net(torch.ones(2, 3, 5, 5))
    return net


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_faithful_copy_passes(has_run: bool, dtype: torch.dtype) -> None:
    model = made(Skip, has_run=has_run).to(dtype)
    check_faithful(model, replica(model), INPUTS)


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize(
    ("kind", "hook", "cause"),
    [
        (Skip, write_globally, "forward hook write_globally of encoder reads the global name 'net'"),
        (Skip, lambda *given: write_globally(*given), ""),
        (Skip, write_to_the_newest, ""),
        (ReadsGlobally, None, "the method ReadsGlobally.forward reads the global name 'net'"),
        (ComputesGlobally, None, "the method ComputesGlobally.forward reads the global name 'net'"),
    ],
)
def test_a_copy_that_leans_on_the_original_is_refused_with_the_cause(
    kind: type[Skip], hook: Callable[..., None] | None, cause: str, has_run: bool
) -> None:
    model = made(kind, hook, has_run=has_run)
    copied = replica(model)
    with pytest.raises(ValueError, match="does not compute what the network does") as caught:
        check_faithful(model, copied, INPUTS)
    stale = "running it does not fill the attribute caught['skip']"
    assert (cause or stale) in str(caught.value)
    assert "\n" not in str(caught.value)


class Draws(nn.Module):
    """A network that draws random numbers in several ways, from generators of its own too."""

    def __init__(self) -> None:
        super().__init__()
        self.python, self.numpy, self.torch = random.Random(0), np.random.default_rng(0), torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        numbers = [random.random(), np.random.rand(), self.python.random(), self.numpy.random()]  # noqa: NPY002
        return x * sum(numbers) + torch.rand(2) + torch.rand(2, generator=self.torch)


def test_random_numbers_are_the_same_for_both() -> None:
    model = Draws()
    check_faithful(model, replica(model), (torch.ones(2, 2),))


def test_a_network_that_is_random_beyond_control_is_not_called_unfaithful() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + random.SystemRandom().random()

    check_faithful(Drawing(), Drawing(), (torch.ones(2, 2),))


class Changing(nn.Module):
    """A network that changes all that it holds when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.register_buffer("queue", torch.zeros(4))
        self.steps, self.kept, self.fresh = 0, None, torch.zeros(1)
        self.items, self.by_name, self.names = [0], OrderedDict(a=1, b=2), {"a"}
        self.recent, self.array = deque([1], maxlen=2), np.zeros(3)
        self.generator = random.Random(0)
        count = 0

        def counting(*_: Any) -> None:
            nonlocal count
            count += 1

        self.counting = counting

    def forward(self, x: Tensor) -> Tensor:
        self.train()
        x = self.norm(self.conv(x))
        self.counting()
        self.queue = torch.cat([self.queue[1:], x.mean().reshape(1)])
        self.conv.weight.data.mul_(0.5)
        self.fresh += 1
        self.steps, self.kept, self.new = self.steps + 1, x, [x]  # type: ignore[assignment]
        self.items[0] += 1
        self.items.append(x)  # type: ignore[arg-type]
        self.by_name.move_to_end("a")
        self.names.add("b")
        self.recent.append(2)
        self.array += self.generator.random() + random.random() + float(torch.rand(1))
        return x


def state_of(model: Changing) -> dict[str, Any]:
    named = ("steps", "kept", "fresh", "items", "by_name", "names", "recent", "array", "training")
    cells = [cell.cell_contents for cell in model.counting.__closure__ or ()]
    state = {name: str(getattr(model, name)) for name in named} | {"cells": cells}
    state |= {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    state |= {"modes": [module.training for module in model.modules()], "new": hasattr(model, "new")}
    return state | {"drawn": str(model.generator.getstate()), "ids": list(map(id, model.buffers()))}


def test_the_check_leaves_the_network_and_the_random_states_as_they_were() -> None:
    model = Changing()
    model.norm.eval()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    before, gradient = state_of(model), model.conv.weight.grad
    randomness = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    copied = replica(model)
    check_faithful(model, copied, INPUTS)
    assert state_of(model) == before
    assert model.conv.weight.grad is gradient
    assert state_of(copied) != before  # type: ignore[arg-type]
    assert torch.equal(randomness[0], torch.get_rng_state())
    assert (randomness[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert randomness[2] == random.getstate()


def test_a_snapshot_brings_back_slots_and_what_was_deleted() -> None:
    class Slotted:
        __slots__ = ("value",)

    holder, inner = nn.Identity(), Slotted()
    inner.value = [1]
    holder.inner, holder.gone = inner, 5  # type: ignore[assignment]
    snapshot = Snapshot(holder)
    inner.value = [2]
    del holder.gone
    snapshot.restore()
    assert (holder.inner.value, holder.gone) == ([1], 5)  # type: ignore[union-attr]
