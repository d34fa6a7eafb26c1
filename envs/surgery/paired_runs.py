"""Compare what a network and a changed one compute, on random weights and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..io.untrusted import first_line
from ..modules.calls import Call
from ..modules.randomness import fixed_randomness
from ..modules.structures import comparable_in
from .deterministic_mode import DeterministicMode
from .probe import TOLERANCES, largest_difference

Run = Callable[[], list[Tensor]]
"""Runs a network, and returns what it computes."""


class ChangedNetworkFailedError(Exception):
    """The changed network does not run, where the first one does; the message is its error's first line."""


def compare_runs(pair: Callable[[torch.dtype], tuple[Run, Run]]) -> tuple[float, bool]:
    """Compare two networks in float64, or in float32 if the first one runs in that alone.

    Args:
        pair: Returns, for a precision, what runs the network, and what runs the changed one.

    Returns:
        The largest relative difference, and whether it is within the tolerance of the precision.

    Raises:
        ChangedNetworkFailedError: If the changed network raises an error.
    """
    for precision in (torch.float64, torch.float32):
        run, run_changed = pair(precision)
        try:
            expected = run()
        except Exception as error:  # the network's code may raise anything
            if is_out_of_memory(error) or precision is torch.float32:
                raise
            continue
        try:
            found = run_changed()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ChangedNetworkFailedError(first_line(error)) from error
        difference = largest_difference(expected, found)
        return difference, difference <= TOLERANCES[precision]
    raise AssertionError("a network that runs in no precision was traced")


def run_in_both_modes(model: nn.Module, calls: Sequence[Call], precision: torch.dtype) -> list[Tensor]:
    """Run a network in evaluation mode, then in training mode where it trains, and return all outputs.

    Args:
        model: The network; its state changes in training mode.
        calls: What to run, in the precision.
        precision: The precision.
    """
    found: list[Tensor] = []
    for training in (False, True):
        model.train(training)
        for number, call in enumerate(calls):
            if call.trains or not training:
                with torch.no_grad(), fixed_randomness(number), DeterministicMode(precision):
                    found += comparable_in(call.on(model))
    return found
