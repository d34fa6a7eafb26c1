"""A copy of a network computes what the network computes and shares nothing with it that running changes."""

from __future__ import annotations

import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from secateur.envs.modules.copying import replica

FIRST, SECOND = torch.randn(2, 2, 3, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()


class Skip(nn.Module):
    """A network whose forward pass reads what a hook of one of its parts has caught."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.caught: dict[str, Any] = {}
        self.listed: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        deep = self.encoder(x)
        return self.decoder(self.caught["skip"] + deep.tanh())

    def catch(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.caught["skip"] = output

    def catch_for(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.caught[name] = output


def by_closure(net: Skip) -> Any:
    return lambda module, inputs, output: net.caught.__setitem__("skip", output)


def by_method(net: Skip) -> Any:
    return net.catch


def by_default(net: Skip) -> Any:
    return lambda module, inputs, output, net=net: net.caught.__setitem__("skip", output)


def by_keyword_default(net: Skip) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor, *, into: dict[str, Any] = net.caught) -> None:
        into["skip"] = output

    return hook


def by_partial(net: Skip) -> Any:
    return functools.partial(net.catch_for, "skip")


def by_partial_of_closure(net: Skip) -> Any:
    return functools.partial(lambda name, *given: net.caught.__setitem__(name, given[-1]), "skip")


def by_nested_wrappers(net: Skip) -> Any:
    def wrapped(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(*given: Any) -> None:
            function(*given)

        return call

    return wrapped(wrapped(by_closure(net)))


def by_shared_container(net: Skip) -> Any:
    store = net.caught
    return lambda module, inputs, output: store.__setitem__("skip", output)


def by_method_of_the_container(net: Skip) -> Any:
    put = net.caught.__setitem__
    return lambda module, inputs, output: put("skip", output)


def by_builtin_method(net: Skip) -> Any:
    update = net.caught.update
    return lambda module, inputs, output: update(skip=output)


def by_weak_reference(net: Skip) -> Any:
    reference = weakref.ref(net)
    return lambda module, inputs, output: reference().catch(module, inputs, output)  # type: ignore[union-attr]


def by_weak_proxy(net: Skip) -> Any:
    proxy = weakref.proxy(net)
    return lambda module, inputs, output: proxy.catch(module, inputs, output)


def by_weak_method(net: Skip) -> Any:
    method = weakref.WeakMethod(net.catch)
    return lambda *given: method()(*given)  # type: ignore[misc]


def by_function_attribute(net: Skip) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        holder["hook"].net.caught["skip"] = output  # type: ignore[attr-defined]

    holder = {"hook": hook}
    hook.net = net  # type: ignore[attr-defined]
    return hook


def by_recursive_function(net: Skip) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor, depth: int = 2) -> None:
        if depth:
            hook(module, inputs, output, depth - 1)
        net.caught["skip"] = output

    return hook


def by_object(net: Skip) -> Any:
    class Catcher:
        def __init__(self, owner: Skip) -> None:
            self.owner = owner

        def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.owner.caught["skip"] = output

    return Catcher(net)


WAYS = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.fixture
def net() -> Skip:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Skip().eval()


def is_independent(net: Skip, copied: nn.Module) -> None:
    """Check that a copy computes the same with other inputs, and that it does not write to the original."""
    with torch.no_grad():
        net(FIRST)
        caught = net.caught["skip"]
        before = caught.clone()
        found = copied(SECOND)
        assert net.caught == {"skip": caught}
        assert torch.equal(caught, before)
        assert torch.equal(found, net(SECOND))
        for parameter in copied.parameters():
            parameter.zero_()
        assert not copied(SECOND).any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("has_run", [False, True])
def test_hooks_of_a_copy_write_to_the_copy(net: Skip, way: Callable[[Skip], Any], has_run: bool) -> None:
    net.encoder.register_forward_hook(way(net))
    if has_run:
        net(FIRST)
    is_independent(net, replica(net))
    is_independent(net, replica(replica(net)))


def test_a_closure_that_two_hooks_share_is_shared_in_the_copy() -> None:
    net, store = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), []  # type: ignore[var-annotated]
    net[0].register_forward_hook(lambda module, inputs, output: store.append(output))
    net[1].register_forward_hook(lambda module, inputs, output: output + store.pop())
    copied = replica(net)
    store.append(None)
    with torch.no_grad():
        found = copied(FIRST)
        assert store == [None]
        store.clear()
        assert torch.equal(found, net(FIRST))


def test_a_counter_of_a_closure_is_the_copy_s_own() -> None:
    def counting() -> Callable[..., int]:
        count = 0

        def hook(*_: Any) -> None:
            nonlocal count
            count += 1

        net.register_forward_hook(hook)
        return lambda: count

    net = nn.Conv2d(3, 3, 1)
    net.count = counting()  # type: ignore[assignment]
    copied = replica(net)
    copied(FIRST)
    copied(FIRST)
    assert (net.count(), copied.count()) == (0, 2)  # type: ignore[operator]


@pytest.mark.parametrize("as_method", [False, True])
def test_a_forward_that_was_set_on_a_module_runs_the_copy(net: Skip, as_method: bool) -> None:
    net.encoder.register_forward_hook(by_closure(net))
    inner = net.forward

    def forward(*given: Any) -> Tensor:
        return 2 * inner(given[-1])

    net.forward = types.MethodType(forward, net) if as_method else forward  # type: ignore[method-assign]
    is_independent(net, replica(net))


@pytest.mark.parametrize(
    "keep",
    [
        lambda net, x: setattr(net, "kept", x),
        lambda net, x: setattr(net, "kept", [x, x]),
        lambda net, x: setattr(net, "kept", {"a": (x, [x])}),
        lambda net, x: setattr(net, "kept", types.SimpleNamespace(inner=[x])),
    ],
)
def test_activations_of_a_training_pass_are_copied_by_value(net: Skip, keep: Callable[..., None]) -> None:
    net.encoder.register_forward_hook(by_method(net))
    net(FIRST).sum().backward()
    keep(net, net.caught["skip"])
    copied = replica(net)
    assert torch.equal(copied.caught["skip"], net.caught["skip"])  # type: ignore[index]
    assert copied.caught["skip"] is not net.caught["skip"]  # type: ignore[index]
    is_independent(net, copied)


def test_lists_of_parameters_hold_those_of_the_copy() -> None:
    net = nn.LSTM(3, 4, bidirectional=True)
    halved = {p: nn.Parameter(p.detach() / 2) for p in net.parameters()}
    copied = replica(net, halved)
    assert all(a is b for a, b in zip(copied._flat_weights, copied.parameters(), strict=True))
    assert all(halved[a] is b for a, b in zip(net.parameters(), copied.parameters(), strict=True))


@pytest.mark.parametrize(
    "normalised", [weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_normalised_weights_are_computed_from_the_copy_s_parameters(normalised: Callable[..., Any]) -> None:
    net = normalised(nn.Conv2d(3, 4, 1))
    net(FIRST).sum().backward()
    copied = replica(net).eval()
    assert torch.equal(copied(SECOND), net.eval()(SECOND))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(-1)
        assert not torch.equal(copied(SECOND), net(SECOND))


def test_what_cannot_be_copied_is_shared() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    net = nn.Conv2d(3, 3, 1)
    net.lock, net.numbers, net.numpy = threading.Lock(), numbers(), np  # type: ignore[assignment]
    with Path(__file__).open(encoding="utf-8") as net.file:  # type: ignore[assignment]
        copied = replica(net)
    assert all(getattr(copied, name) is getattr(net, name) for name in ("lock", "numbers", "numpy", "file"))


def test_functions_that_hold_nothing_are_shared() -> None:
    net = nn.Conv2d(3, 3, 1)
    net.acts = [torch.relu, nn.functional.gelu, nn.functional.interpolate]  # type: ignore[assignment]
    assert all(a is b for a, b in zip(replica(net).acts, net.acts, strict=True))  # type: ignore[arg-type]


def test_an_object_that_refuses_to_be_copied_is_an_error_in_one_line() -> None:
    class Stubborn:
        def __deepcopy__(self, memo: Any) -> None:
            raise RuntimeError("a handle of a device")

    net = nn.Conv2d(3, 3, 1)
    net.handle = Stubborn()  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"cannot be copied \(RuntimeError: a handle of a device\)"):
        replica(net)
