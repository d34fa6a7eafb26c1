"""Try a cut: the cut network must compute what the masked one does, on random weights and inputs."""

import functools
import math
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..modules.calls import Call
from ..modules.copying import with_own_state
from ..modules.randomness import fixed_randomness
from ..modules.structures import comparable_in
from ..tracing import TracedNetwork
from ..tracing.rules.norms import INEXACT_NORMS
from .cutting import cut, mask_
from .deterministic_mode import DeterministicMode
from .plan import PruningPlan
from .randomisation import drawn, randomise_, randomised

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest allowed relative difference between the masked and the cut network, by precision."""

TOLERANCE = TOLERANCES[torch.float64]

_DRAWS = 3
"""How often weights and inputs are drawn for a check, at most."""

_VISIBLE = 1e-6
"""Relative change of an output from which a mask counts as visible."""

_ENDLESS = 1e30
"""Entries that are no smaller stand for infinity."""


class InexactCutError(ValueError):
    """A cut network does not compute the same as the masked dense one.

    Args:
        message: The problem.
        source: "file:line" of the model's code that failed, or "".
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class Probe:
    """Try cuts on randomised copies of a network.

    Args:
        model: The dense network; it is not changed.
        calls: What to run; the first with a batch of at least two inputs.
        precision: float64, or float32 to save time. A network that runs only in float32 gets that.
    """

    def __init__(
        self, model: nn.Module, calls: Sequence[Call], precision: torch.dtype = torch.float64
    ) -> None:
        self.precision = precision
        """Precision in which cuts are compared."""
        self._model = model
        self._calls = calls
        self._drawn: tuple[int, _Draw] | None = None

    def check(
        self,
        network: TracedNetwork,
        plan: PruningPlan,
        modes: Sequence[bool] = (False, True),
        *,
        first: int = 0,
        agreeing: int = 1,
        visible: bool = True,
    ) -> float:
        """Return the largest relative difference between the cut and the masked network.

        A draw may mislead. All that goes, or is wrong, may be silent, as a dead filter is. And where values
        are equal, rounding chooses what max-pooling takes. So more draws decide where one does not.

        Args:
            network: The trace.
            plan: The cut.
            modes: Modes to run, evaluation (False) before training (True).
            first: Number of the first draw.
            agreeing: Number of draws in which an exact cut has to be exact.
            visible: Whether masking has to change an output; this takes a pass of the dense network.

        Raises:
            InexactCutError: If the difference is above the tolerance with most of the drawn weights and
                inputs, the cut network does not run, or masking changes no output, so that the check cannot
                fail.
        """
        differences: list[float] = []
        exact: list[float] = []
        for number in range(first, first + _DRAWS):
            found = self._draw(number, network.inexact).difference(network, plan, modes, visible=visible)
            differences += [] if found is None else [found]
            exact = [difference for difference in differences if difference <= TOLERANCES[self.precision]]
            if len(exact) >= agreeing and 2 * len(exact) > len(differences):
                break
            if 2 * (len(differences) - len(exact)) > _DRAWS:
                break
        if not differences:
            raise InexactCutError("masking changed nothing, so the check of the cut is blind")
        if 2 * len(exact) <= len(differences):
            worst = max(differences)
            raise InexactCutError(f"the cut network differs from the masked one by {worst:.1e}")
        return max(exact)

    def is_repeatable(self) -> bool:
        """Return whether the dense network, after a first check, answers twice alike."""
        return not self.depends_on(lambda _: None)

    def depends_on(self, change: Callable[[nn.Module], None]) -> bool:
        """Return whether the outputs of a copy of the network, after a first check, change with the copy."""
        assert self._drawn is not None
        return self._drawn[1].depends_on(change)

    def _draw(self, number: int, inexact: Sequence[str]) -> "_Draw":
        """Return a draw; only the last one is kept, to save memory."""
        if self._drawn is None or self._drawn[0] != number:
            is_first, self._drawn = self._drawn is None, None
            draw = _Draw(self._model, self._calls, number, self.precision, inexact)
            if is_first and self.precision is torch.float64 and not draw.runs():
                self.precision = torch.float32
                draw = _Draw(self._model, self._calls, number, self.precision, inexact)
            self._drawn = number, draw
        return self._drawn[1]


class _Draw:
    """One randomised copy of a network, and inputs for it.

    Args:
        model: The dense network; it is left as it is.
        calls: What to run.
        number: Number of the draw, from 0; see :func:`.randomised`.
        precision: float64 or float32.
        inexact: Names of what the trace does not keep exact.
    """

    def __init__(
        self,
        model: nn.Module,
        calls: Sequence[Call],
        number: int,
        precision: torch.dtype,
        inexact: Sequence[str],
    ) -> None:
        self.calls = [drawn(call.to(precision), number) for call in calls]
        self._source = model
        self._number = number
        self._precision = precision
        self._model = randomised(model, number, precision)
        self._is_masked = False
        self._mode = functools.partial(DeterministicMode, precision, INEXACT_NORMS if inexact else ())
        self._dense: dict[bool, list[Tensor]] = {}

    def runs(self) -> bool:
        """Return whether the dense network runs in this precision in evaluation mode."""
        try:
            self._of_dense(training=False)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return True

    def difference(
        self, network: TracedNetwork, plan: PruningPlan, modes: Sequence[bool], *, visible: bool
    ) -> float | None:
        """Return the largest relative difference between the cut and the masked network.

        Returns:
            The difference, or None if there is none but masking changes no output.

        Raises:
            InexactCutError: If the cut network does not run.
        """
        plan.masks(network)  # refuses a plan of another network
        with _refusing_what_does_not_run():
            found = self._outputs(cut(self._unmasked(), network, plan), modes)
        mask_(self._model, network, plan)
        self._is_masked = True
        expected = self._outputs(with_own_state(self._model), modes)
        worst = max(largest_difference(expected[mode], found[mode]) for mode in expected)
        pruned = any(len(kept) < plan.filters[name] for name, kept in plan.kept.items())
        if worst > TOLERANCES[self._precision] or not pruned or not visible:
            return worst
        seen = any(
            largest_difference(self._of_dense(training=mode), expected[mode]) > _VISIBLE for mode in expected
        )
        return worst if seen else None

    def depends_on(self, change: Callable[[nn.Module], None]) -> bool:
        """Return whether a changed copy of the dense network gives other outputs, or does not run."""
        changed = with_own_state(self._unmasked())
        change(changed)
        try:
            outputs = self._outputs(changed, [False])[False]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return True
        return largest_difference(self._of_dense(training=False), outputs) > 0

    def _unmasked(self) -> nn.Module:
        """Return the randomised network; what a mask made zero is drawn again, as before."""
        if self._is_masked:
            randomise_(self._model, self._source, self._number)
            self._is_masked = False
        return self._model

    def _of_dense(self, *, training: bool) -> list[Tensor]:
        """Return the outputs of the dense network in one mode."""
        if training not in self._dense:
            self._dense |= self._outputs(with_own_state(self._unmasked()), [training])
        return self._dense[training]

    def _outputs(self, model: nn.Module, modes: Sequence[bool]) -> dict[bool, list[Tensor]]:
        """Run a network in each mode; training mode comes last, as it changes the network."""
        outputs: dict[bool, list[Tensor]] = {}
        for training in modes:
            model.train(training)
            with torch.no_grad(), fixed_randomness(), self._mode():
                given = [call.on(model) for call in self.calls if call.trains or not training]
            outputs[training] = comparable_in(given)
        return outputs


@contextmanager
def _refusing_what_does_not_run() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):  # else layers would be pinned for it
            raise
        message, line = f"the cut network does not run: {str(error) or repr(error)}", _line_of(error)
        if line is None:
            raise InexactCutError(message) from error
        path = Path(line.filename)
        source = f"{path.parent.name}/{path.name}:{line.lineno}"
        raise InexactCutError(f"{message}{_advice(line.line or '')}", source) from error


def _advice(line: str) -> str:
    """Show the line of code that failed, and say how it adapts to a smaller network."""
    if not line:
        return ""
    flat = "view(x.size(0), -1) adapts by itself; " if re.search(r"view\(|reshape\(", line) else ""
    return (
        f", in the line `{line}`; {flat}take numbers of channels from a shape or an attribute, "
        "or declare the attribute with --size"
    )


def _line_of(error: BaseException) -> traceback.FrameSummary | None:
    """Find the innermost line of the model's code in an error's traceback."""
    folders = (Path(torch.__file__).parent, Path(__file__).parents[1])
    others = tuple(str(folder) + os.sep for folder in folders)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(others)]
    return None if not frames or frames[-1].name == "<module>" else frames[-1]


def largest_difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return the largest difference relative to the largest entry; infinite if shapes differ, and for NaN."""
    if [x.shape for x in one] != [x.shape for x in other]:
        return math.inf
    return max((_relative_difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _relative_difference(a: Tensor, b: Tensor) -> float:
    """Compare two tensors of equal shape.

    The scale is the largest entry among those that differ: what is filled in, such as -1e9 before a softmax,
    would hide the others.
    """
    a, b = (x if x.is_complex() else x.double() for x in (a, b))  # of truth values, too
    differs = (a != b) & ~(a.isnan() & b.isnan())
    if not differs.any():
        return 0.0
    sizes = a.abs()
    usual = sizes[sizes < _ENDLESS]
    floor = float(usual.median()) * _VISIBLE if usual.numel() else 0.0
    worst = float((a - b)[differs].abs().max() / sizes[differs].max().clamp_min(max(floor, 1e-30)))
    return math.inf if math.isnan(worst) else worst
