"""Where the candidates of a job are measured."""

import contextlib
from collections.abc import Iterator

from torch import nn

from ...envs.evaluation.engine import Engine
from ...envs.evaluation.engine_names import LOCAL
from ...envs.evaluation.engines import open_engine
from ...envs.evaluation.journal import Journal
from ...envs.modules.precision import device_kind
from ...envs.modules.ranks import ranks
from ..run.progress import log_info
from .options import EngineOptions


@contextlib.contextmanager
def engine_of(options: EngineOptions, model: nn.Module, journal: Journal | None = None) -> Iterator[Engine]:
    """Open the engine of a job, and stop its workers in the end.

    Args:
        options: The options of the job.
        model: The dense network, on its device.
        journal: The journal of the job; if it has candidates of another kind of processor, that is said.

    Raises:
        ValueError: If there is no such engine.
    """
    device = next(model.parameters()).device
    kind = device_kind(device)
    others = sorted(journal.kinds - {kind}) if journal else ()
    if others:
        log_info(
            f"the candidates of the interrupted run were measured in {' and '.join(others)}; this process "
            f"measures in {kind}, so they are measured again, and the result may be another"
        )
    name, workers = options.engine, options.search_workers
    if ranks() > 1 and (name, workers) != (LOCAL, None):
        log_info("the processes of torchrun measure the candidates, without --search-workers and --engine")
        name, workers = LOCAL, None
    with open_engine(name, workers, device) as engine:
        yield engine
