"""Runs that were started from Python: what their folder records, and whether it is to be resumed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ...envs.io.run_files import CONFIG, PLAN
from ...envs.modules.copying import replica
from ...envs.modules.prunable_kind import check_prunable_kind
from ...envs.modules.usable_weights import check_usable
from ...envs.quantization.ranges import load_ranges
from ...envs.surgery import cutting
from ...envs.tasks import Task
from ...envs.tasks.fingerprint import data_fingerprint
from ...envs.tasks.user_task import check_task, on_device
from ..reporting.report import read_report
from ..run.flat_options import flat_options, options_of, read_config
from .config import PruningConfig
from .data_config import FOUND_OUT, DataConfig
from .opening import Dense, describe_own_task, open_job
from .options import EngineOptions
from .prune import PruningResult

Data = Task | str | Path
"""A task, the name of a data set, or a folder of images."""


@dataclass(frozen=True)
class Python:
    """The options of a run that was started from Python, for its ``config.yaml``.

    Args:
        model: Name of the network.
        data: Options of the data.
        options: Options of the run.
    """

    model: str
    data: DataConfig = field(default_factory=DataConfig)
    options: PruningConfig = field(default_factory=PruningConfig)


def check_resumable(out: object, resume: bool) -> None:
    """Refuse to resume a run that has no folder.

    Raises:
        ValueError: If ``resume`` is set and there is no ``out``.
    """
    if resume and out is None:
        raise ValueError("resume=True goes on with the run in a folder; give out=, too, or leave out resume")


def is_resumed(out: Path, run: Any, resume: bool, *, default: Any = None) -> bool:
    """Return whether a folder holds the same run, to be resumed.

    Args:
        out: The folder.
        run: The options of the run, such as :class:`Python`.
        resume: Whether it may be resumed.
        default: The same with defaults; None is for :class:`Python`.

    Raises:
        ValueError: If it holds another run, or this one and ``resume`` is not set.
    """
    if not (out / CONFIG).is_file():
        return False
    if not resume:
        raise ValueError(f"{out} holds a run; give resume=True to go on with it, or another out")
    before, now = read_config(out), flat_options(run)
    usual = flat_options(Python(run.model) if default is None else default)
    for engine in options_of(EngineOptions):
        now.pop(engine.name, None)  # they change no result
    for option, value in now.items():
        is_found_out = option in FOUND_OUT and value == usual[option]
        if before.get(option, value) != value and not is_found_out:
            raise ValueError(
                f"{out} was begun with {option}={before[option]!r}, not {value!r}; give the same options"
            )
    return True


def finished(model: nn.Module, out: Path) -> PruningResult:
    """Load the result of a finished run.

    Args:
        model: The dense network; it is not changed.
        out: Folder of the run.
    """
    plan = cutting.read_plan(out / PLAN)
    pruned = cutting.load_pruned(lambda: replica(model).cpu(), out)
    pruned = pruned.to(next(model.parameters()).device)
    return PruningResult(pruned, plan, read_report(out), load_ranges(out))


def data_config(task: Data, options: dict[str, Any]) -> DataConfig:
    """Return the options of the data: those of a name or folder, with keywords.

    Raises:
        ValueError: If a task of the user's own has keywords, too.
    """
    if isinstance(task, (str, Path)):
        return DataConfig(data=str(task), **options)
    if options:
        option = next(iter(options))
        more = ", and bring the network to that device" if option == "device" else ""
        raise ValueError(f"the task brings its own data; leave out {option}{more}")
    return DataConfig()


def own_data(task: Data) -> str:
    """Return the fingerprint of a task's data; "" for a name or a folder, which is not yet read.

    Raises:
        ValueError: If a member of the task is missing or wrong.
        TypeError: If one is of the wrong type.
    """
    if isinstance(task, (str, Path)):
        return ""
    check_task(task)
    return data_fingerprint(task)


def check_network(model: object) -> None:
    """Refuse what is no network, or none that can compute anything.

    Raises:
        TypeError: If it is none.
        ValueError: If it cannot be cut, its weights cannot be trained, or numbers are infinite or undefined.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is {type(model).__name__}; give an nn.Module")
    check_prunable_kind(model)
    check_usable(model)


def open_for_python(
    model: nn.Module, task: Data, config: DataConfig, seed: int, name: str, *, resumed: bool = False
) -> tuple[Task, DataConfig, tuple[str, ...]]:
    """Load the data, check them with the network, and say on the terminal what they are.

    Returns:
        The task, the data options with what was found out, and notes for the report.
    """
    check_network(model)
    device = next(model.parameters()).device
    if isinstance(task, (str, Path)):
        opened = open_job(config, [Dense(name, lambda task, seed: model.eval())], seed, resumed=resumed)
        return on_device(opened.task, device), opened.data, opened.notes
    loaded = on_device(task, device)
    if not resumed:
        check_task(loaded)
        describe_own_task(loaded, name, model)
    return loaded, config, ()
