"""Runs that were started from Python: what their folder records, and whether it is to be resumed."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ...envs.io.run_files import CONFIG, PLAN, REPORT
from ...envs.io.untrusted import parse_json, read_text
from ...envs.modules.copying import replica
from ...envs.quantization.ranges import load_ranges
from ...envs.surgery import cutting
from ...envs.surgery.plan import PruningPlan
from ..run.flat_options import flat_options, options_of, read_config
from .config import PruningConfig
from .data_config import FOUND_OUT, DataConfig
from .options import EngineOptions
from .prune import PruningResult


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


def is_resumed(out: Path, run: Python, resume: bool) -> bool:
    """Return whether a folder holds the same run, to be resumed.

    Raises:
        ValueError: If it holds another run, or this one and ``resume`` is not set.
    """
    if not (out / CONFIG).is_file():
        return False
    if not resume:
        raise ValueError(f"{out} holds a run; give resume=True to go on with it, or another out")
    before, now, default = read_config(out), flat_options(run), flat_options(Python(run.model))
    for engine in options_of(EngineOptions):
        del now[engine.name]  # they change no result
    for option, value in now.items():
        is_found_out = option in FOUND_OUT and value == default[option]
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
    plan = PruningPlan.from_json(read_text(out / PLAN))
    pruned = cutting.load_pruned(lambda: replica(model).cpu(), out)
    pruned = pruned.to(next(model.parameters()).device)
    return PruningResult(pruned, plan, parse_json(read_text(out / REPORT)), load_ranges(out))
