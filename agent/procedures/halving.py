"""Successive halving among finalists (Jamieson and Talwalkar 2016, arXiv 1502.07943).

In each rung the plans that are left recover for a short time, and the better half goes on. A rung begins anew
from the cut: a learning rate that has fallen to zero cannot go on, and accuracies at a high one say little.
Each rung has the same share of the epochs, so a plan has twice as many as in the rung before.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...envs.io.wording import counted
from ...envs.modules.ranks import broadcast, first_decides
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batching import Batching
from ...envs.recovery.callbacks import Progress
from ...envs.recovery.checkpoint import Checkpoint
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.tasks import Measurement, Task
from ...envs.tasks.intervals import drop_interval
from ...envs.tasks.optional_members import metric_name
from ..deciders.finalists import Finalist
from ..run.folder import RunFolder
from ..run.progress import Stage, log_info
from ..run.results import Results
from .short_recovery import recover_briefly, steps_of

LEVEL = 0.8
"""Level of the interval by which an agent's plan has to lead. Of two equally good plans the agent's wins one
time in ten, which costs nothing; a plan that is better is not asked for more certainty than it is worth."""

_LEAST_SHARE = 0.1
"""Share of the epochs below which a time limit lets the finalists be compared without training."""

Measured = Mapping[str, Measurement]
"""The measurement of each plan of a rung, by the finalist's name."""


@dataclass(frozen=True)
class Rung:
    """A rung: plans that recover for equally long.

    Args:
        plans: Number of plans.
        epochs: Passes over the training images for each, whole steps; 0 does not train.
    """

    plans: int
    epochs: float

    @property
    def is_last(self) -> bool:
        """Whether it decides, so that its plans are compared in pairs."""
        return self.plans <= 2 or not self.epochs


def rungs(finalists: int, epochs: float, steps_per_epoch: int) -> list[Rung]:
    """Divide epochs among rungs.

    Args:
        finalists: Number of finalists, at least 1.
        epochs: Epochs of all rungs and plans together, at most.
        steps_per_epoch: Steps of an epoch.

    Returns:
        The rungs. With training, each has half as many plans as the one before, the last one two. If the
        epochs do not give each plan a step in each rung, there is one rung without training.
    """
    counts = [finalists]
    while counts[-1] > 2:
        counts.append((counts[-1] + 1) // 2)
    steps = [int(epochs * steps_per_epoch / len(counts) / count + 1e-9) for count in counts]
    if not all(steps):
        return [Rung(finalists, 0.0)]
    return [Rung(count, number / steps_per_epoch) for count, number in zip(counts, steps, strict=True)]


def total_epochs(planned: Sequence[Rung]) -> float:
    """Return the passes over the training images of all rungs and plans together."""
    return sum(rung.plans * rung.epochs for rung in planned)


@dataclass(frozen=True)
class Halved:
    """The result of the comparison.

    Args:
        winner: The plan that is cut.
        report: Who was in, what each had at each rung, and who won by how much; for the report.
    """

    winner: Finalist
    report: dict[str, Any]


class Halving:
    """Compare finalists by short recoveries. A resumed comparison ends as if it had not been interrupted.

    Args:
        problem: The dense network, with its compensation.
        judge: The task with the training images, whose val is measured.
        config: Settings of the whole recovery.
        teacher: The network to distil from, or None.
        seed: Seed of the order of images and their augmentation.
        folder: Folder of the run; None writes nothing.
    """

    def __init__(
        self,
        problem: PruningProblem,
        judge: Task,
        config: RecoveryConfig,
        teacher: nn.Module | None = None,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,
    ) -> None:
        self._problem, self._judge, self._config = problem, judge, config
        self._teacher, self._seed, self._folder = teacher, seed, folder
        self._results = Results(folder.checkpoint("finalists") if folder else None)
        self._seconds, self._steps_done = 0.0, 0

    def __call__(
        self, finalists: Sequence[Finalist], epochs: float, affordable: Callable[[], float] = lambda: 1.0
    ) -> Halved:
        """Let finalists recover for a short time and halve them, until one is left.

        Before a recovery the agent's plan wins only where it leads the best heuristic by more than the noise.
        Without a recovery the most accurate plan wins.

        Args:
            finalists: Distinct plans, at least one; of equally good ones the first wins.
            epochs: Epochs of all rungs and plans together; 0 compares without training.
            affordable: Share of the epochs for which there is time, in [0, 1]; asked once in a run.
        """
        log_info(f"{counted(len(finalists), 'finalist')}: {', '.join(one.name for one in finalists)}")
        epochs *= self._affordable(affordable) if epochs else 0.0
        planned = rungs(len(finalists), epochs, Batching.of(self._judge, self._config).steps)
        ranked, rows = list(finalists), []
        measured: dict[str, Measurement] = {}
        steps = sum(rung.plans * max(1, self._steps(rung)) for rung in planned)
        with contextlib.closing(Stage("finalists", steps, "steps", leave=False)) as stage:
            for number, rung in enumerate(planned, start=1):
                plans = _with_a_heuristic(ranked, rung.plans)
                measured = {one.name: self._measured(one, number, rung, stage) for one in plans}
                ranked = sorted(plans, key=lambda one: _quality(measured[one.name]), reverse=True)
                rows.append(_row(rung, ranked, measured))
                self._say(number, len(planned), rows[-1])
        winner, lead = self._decide(ranked, measured)
        return Halved(
            winner,
            {
                "images": self._judge.size("val"),
                "epochs": total_epochs(planned),
                "seconds": round(self._seconds, 1),
                "rungs": rows,
                "winner": winner.name,
                "lead": lead,
            },
        )

    def _affordable(self, affordable: Callable[[], float]) -> float:
        share: float = self._results.once("share", lambda: first_decides(affordable))
        if share < _LEAST_SHARE:
            log_info(
                "warning: --minutes leaves no time for training the finalists, so they are compared as cut"
            )
            return 0.0
        if share < 1:
            log_info(f"warning: --minutes leaves {share:.0%} of the finalists' epochs")
        return share

    def _steps(self, rung: Rung) -> int:
        return steps_of(rung.epochs, self._judge, self._config)

    def _measured(self, one: Finalist, number: int, rung: Rung, stage: Stage) -> Measurement:
        """Return the measurement of a plan after its recovery in a rung."""
        name = f"rung {number}, {one.name}"
        checkpoint = self._folder.checkpoint(name) if self._folder else None
        found = self._results.once(name, lambda: self._recover(one, rung, stage, checkpoint))
        if checkpoint is not None:
            checkpoint.discard()
        self._steps_done += max(1, self._steps(rung))
        stage.advance(self._steps_done, "")
        if self._folder is not None:
            self._folder.check()
        self._seconds += found["seconds"]
        return Measurement(
            found["accuracy"], found["loss"], found["images"], example_statistics=found["statistics"]
        )

    def _recover(
        self, one: Finalist, rung: Rung, stage: Stage, checkpoint: Checkpoint | None
    ) -> dict[str, Any]:
        """Let a plan recover and measure it; one whose training diverges is the worst."""
        clock, folder, done = Stopwatch(), self._folder, self._steps_done

        def on_step(progress: Progress) -> None:
            stage.advance(done + progress.finished_steps, f"{one.name}, loss {progress.loss:.3f}")
            if folder is not None:
                folder.check()

        try:
            measured = recover_briefly(
                self._problem,
                broadcast(one.plan(self._problem)),
                self._judge,
                self._config,
                rung.epochs,
                teacher=self._teacher,
                seed=self._seed,
                checkpoint=checkpoint,
                on_step=on_step,
            ).measured
        except FloatingPointError as error:
            log_info(f"{one.name}: {error}")
            measured = Measurement(-math.inf, math.inf, 0)
        return {
            "accuracy": measured.accuracy,
            "loss": measured.loss,
            "images": measured.images,
            "statistics": measured.example_statistics if rung.is_last else None,
            "seconds": clock.seconds,
        }

    def _say(self, number: int, of: int, row: dict[str, Any]) -> None:
        """Say on the terminal and in TensorBoard what each plan of a rung has."""
        found = {one["name"]: one["accuracy"] for one in row["plans"]}
        trained = f" after {row['epochs']:.2g} epochs each" if row["epochs"] else ""
        said = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in found.items())
        log_info(f"rung {number} of {of}, {metric_name(self._judge)}{trained}: {said}")
        if self._folder is not None:
            finite = {f"finalists/{name}": each for name, each in found.items() if math.isfinite(each)}
            self._folder.log(finite, number)

    def _decide(
        self, ranked: Sequence[Finalist], measured: Measured
    ) -> tuple[Finalist, dict[str, Any] | None]:
        """Choose the winner of the last rung; return it and by how much it leads which other plan."""
        best, *others = ranked
        if not others:
            return best, None
        other = next((one for one in others if one.is_own != best.is_own), others[0])
        interval = drop_interval(self._judge, measured[best.name], measured[other.name], LEVEL)
        is_clear = interval is not None and interval[0] > 0
        winner = best
        if best.is_own and not other.is_own and not is_clear and self._config.recipe.epochs:
            winner, other = other, best
            interval = None if interval is None else (-interval[1], -interval[0])
        points = measured[winner.name].accuracy - measured[other.name].accuracy
        lead = {"over": other.name, "points": points, "interval": interval, "level": LEVEL}
        return winner, lead | {"is_clear": is_clear}


def _with_a_heuristic(ranked: Sequence[Finalist], count: int) -> list[Finalist]:
    """Return the best plans, the best heuristic among them: an agent's plan has to lead it in the end."""
    kept = list(ranked[:count])
    if all(one.is_own for one in kept):
        kept[-1:] = [one for one in ranked if not one.is_own][:1] or kept[-1:]
    return kept


def _quality(measured: Measurement) -> tuple[float, float]:
    return measured.accuracy, -measured.loss


def _row(rung: Rung, ranked: Sequence[Finalist], measured: Measured) -> dict[str, Any]:
    """Describe a rung for the report."""
    return {
        "epochs": rung.epochs,
        "plans": [
            {
                "name": one.name,
                "is_own": one.is_own,
                "macs_ratio": one.outcome.macs_ratio,
                "accuracy_before": one.outcome.accuracy,
                "accuracy": measured[one.name].accuracy,
            }
            for one in ranked
        ],
    }
