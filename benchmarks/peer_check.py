"""Let another pruner cut a network, and check the result like ours.

It gets the network in evaluation mode, a real example, and the names of the layers that compute the network's
outputs. How it cuts is in ``peer_cuts.py``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.envs.surgery.verification import TOLERANCE

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.promises import Inputs, assert_trains, difference, outputs

_PATIENCE = 60
"""Limit of CPU seconds per network, as Torch-Pruning does not terminate on some."""

Cut = Callable[[nn.Module, Inputs, Sequence[str]], nn.Module]
"""Removes a part of the filters: network, example inputs, names of the layers of the outputs -> network."""


@dataclass(frozen=True)
class Verdict:
    """Result for one network.

    Args:
        runs: Whether parameters went and the rest computes something in evaluation mode.
        problem: Why the result is not right, or "": it has to take a training step too, and to compute what
            the dense network computes with the removed entries of its parameters at zero.
    """

    runs: bool = False
    problem: str = ""


def check_peer(build: Callable[[], nn.Module], inputs: Inputs, heads: Sequence[str], cut: Cut) -> Verdict:
    """Let a peer cut a float64 network, and check the result.

    Args:
        build: Builds the dense network, always with the same weights.
        inputs: A batch of example inputs.
        heads: Names of the modules that compute the network's outputs.
        cut: The peer.
    """
    runs = False
    try:
        with _limited():
            masked, smaller = _pruned(build, inputs, heads, cut)
        found = outputs(smaller, inputs)
        runs = True
        worst = difference(outputs(masked, inputs), found)
        del masked
        if not worst <= TOLERANCE:
            return Verdict(runs, f"differs from the masked network by {worst:.0e}")
        assert_trains(smaller, inputs)
    except Exception as error:  # any failure is a result
        mode = "in training mode, " if runs else ""
        return Verdict(runs, mode + brief(error))
    return Verdict(runs)


def brief(error: Exception) -> str:
    """Format an error as one short line."""
    text = " ".join((str(error) or repr(error)).split())
    return f"{type(error).__name__}: {text[:120]}"


def _pruned(
    build: Callable[[], nn.Module], inputs: Inputs, heads: Sequence[str], cut: Cut
) -> tuple[nn.Module, nn.Module]:
    """Return the dense network with zeros for removed entries, and the pruned network."""
    model, smaller = build().eval(), build().eval()
    _untie(model)  # as Torch-Pruning does
    for tensor in _tensors(smaller).values():  # each entry tells its place, also when it has moved
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        smaller = cut(smaller, inputs, [name for name in heads if name])
    dense, shorter = _tensors(model), False
    for name, tensor in _tensors(smaller).items():
        if name not in dense:  # a parameter that it added for a masked or normalised one
            continue
        places = tensor.data.flatten().long()
        tensor.data = dense[name].data.flatten()[places].view(tensor.shape)
        if isinstance(dense[name], nn.Parameter):
            stays = torch.zeros(dense[name].numel(), dtype=torch.float64).index_fill_(0, places, 1.0)
            dense[name].data *= stays.view(dense[name].shape)
        shorter |= tensor.numel() < dense[name].numel()
    assert shorter, "nothing was removed"
    return model, smaller


def _untie(model: nn.Module) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone()))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what can become shorter: other buffers stay, as passes may keep what they compute from them."""
    statistics = [(name, x) for name, x in model.named_buffers() if name.endswith(("_mean", "_var"))]
    named = [*model.named_parameters(remove_duplicate=False), *statistics]
    return {name: tensor for name, tensor in named if tensor.is_floating_point()}


@contextmanager
def _limited() -> Iterator[None]:
    """Raise a TimeoutError after some CPU time, and again each second, as some code catches all errors."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not done after {_PATIENCE} s of processor time")

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, _PATIENCE, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
