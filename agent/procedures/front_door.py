"""The functions of ``import secateur``: search, cut, recover, prune and load.

Keywords are the options of ``secateur prune``, with underscores.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ...envs.io.ranges import check_seed
from ...envs.io.run_files import REPORT
from ...envs.models.factories import build_with
from ...envs.modules.copying import replica
from ...envs.modules.digest import weights_digest
from ...envs.modules.modes import restored_modes
from ...envs.modules.process_group import join
from ...envs.modules.ranks import first_decides
from ...envs.recovery.callbacks import Callback, Callbacks
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery import cutting
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Task
from ...envs.tasks.fingerprint import data_fingerprint
from ...envs.tasks.user_task import check_task, on_device
from ..reporting.report import read_report
from ..run.following import open_folder
from ..run.origin import Origin
from . import prune as procedure
from .choosing import choose
from .config import PruningConfig, recovery_for
from .data_config import DataConfig, read_data_config
from .goal import agent_digest
from .keywords import checked_keywords, split_keywords
from .loading import check_answers_of, load_task
from .options import Effort
from .preparation import logged, prepare
from .prune import PruningResult
from .python_runs import (
    Data,
    Python,
    check_network,
    check_resumable,
    data_config,
    finished,
    is_resumed,
    open_for_python,
    own_data,
)
from .python_words import speaks_python
from .recovery import recover_in_place
from .teacher import Teacher, check_teacher
from .val_in_train import without_held_out
from .verified_cut import cut as cut


@speaks_python
def search(model: nn.Module, task: Data, **options: Any) -> PruningPlan:
    """Choose the filters that stay; nothing is trained, written or changed.

    With ``drop_bound`` the network keeps the bound as it is cut, without fine-tuning.

    Args:
        model: The trained network.
        task: Data, loss and metric; or the name of a data set or a folder of images, as for ``--data``.
        **options: Options of ``secateur prune``, such as ``target_macs=0.5`` and ``effort="quick"``.

    Returns:
        The plan, for :func:`cut`.

    Raises:
        ValueError: If an option is unknown or wrong, nothing can be pruned, or the target cannot be met.
    """
    join()
    clock = Stopwatch()
    config, data = _configs(search, options, task)
    if config.procedure != "network":
        raise ValueError("search prunes all layers at once; for layerwise, which trains, call prune")
    check_network(model)
    with restored_modes(model):
        loaded, data, _ = open_for_python(model, task, data, config.seed, type(model).__name__)
        prepared = prepare(model, loaded, config, trains=False)
        config = replace(config, epochs=0)  # nothing is trained, so all is compared as cut
        chosen = choose(model, loaded, config, prepared=prepared, name=type(model).__name__, clock=clock)
        if chosen.bounded is not None:
            logged(chosen.bounded.notes)
        return chosen.result.plan


@speaks_python
def recover(
    model: nn.Module,
    task: Data,
    *,
    teacher: nn.Module | None = None,
    effort: Effort = "normal",
    seed: int = 0,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    **options: Any,
) -> nn.Module:
    """Fine-tune a cut network in place, with its batch-norm statistics re-estimated before and after.

    Args:
        model: The cut network.
        task: Data and loss, as for :func:`search`.
        teacher: The network to distil from, such as the dense one; None trains on the labels alone.
        effort: quick, normal or thorough: how long it is trained if ``epochs`` are not given.
        seed: Seed of the order of images and their augmentation.
        on_step: Called after every step with a :class:`~secateur.envs.recovery.callbacks.Progress`; ends the
            training by returning True.
        on_epoch: The same after every epoch, measured on val.
        **options: Options of the recovery and of the data, such as ``epochs=10`` and ``learning_rate=0.01``.

    Returns:
        The same network, in evaluation mode; with ``quantize`` under fake quantisation, with its ranges.

    Raises:
        ValueError: If an option is unknown or wrong, or the network cannot be trained with the task.
        FloatingPointError: If the loss or the gradient is not finite.
    """
    join()
    check_seed(seed)
    recovery, data = split_keywords(checked_keywords("recover", options), RecoveryConfig, DataConfig)
    of_data = data_config(task, data)
    config, notes = without_held_out(recovery_for(effort, **recovery), of_data)
    logged(notes)
    loaded = _task(model, task, of_data, seed)
    check_task(loaded)
    check_answers_of(type(model).__name__, model, loaded)
    recover_in_place(model, loaded, config, teacher, seed, Callbacks(on_step, on_epoch))
    return model.eval()


@speaks_python
def prune(
    model: nn.Module,
    task: Data,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    teacher: nn.Module | None = None,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    **options: Any,
) -> PruningResult:
    """Prune a trained network: choose the filters, cut, fine-tune, and report.

    Args:
        model: The trained network; its weights are not changed.
        task: Data, loss and metric; or the name of a data set or a folder of images, as for ``--data``.
        out: Folder of the run, new or empty; None writes nothing.
        resume: Whether to continue an interrupted run in ``out``, with the same options, to the same result.
            A finished run is loaded; a new one begins if there is none.
        name: Name of the network in the report; by default that of its class. With a name that builds it,
            such as ``mypackage.nets:build``, ``secateur evaluate`` and ``export`` take the folder, too.
        teacher: The network to distil from in the fine-tuning; None is the dense network.
        on_step: Called after every step of the fine-tuning of the cut network, as in :func:`recover`.
        on_epoch: The same after every epoch. A resumed run has to get the same callbacks.
        **options: Options of ``secateur prune``, such as ``target_macs=0.5``, ``effort="quick"``.

    Returns:
        The pruned network, the plan and the report.

    Raises:
        ValueError: If an option is unknown or wrong, nothing can be pruned, the target cannot be met, or
            ``out`` holds another run, or is needed.
        KeyboardInterrupt: If the run is interrupted; with ``out`` it can be resumed.
    """
    join()
    check_resumable(out, resume)
    config, data = _configs(prune, options, task)
    check_network(model)
    name = name or type(model).__name__
    resumed, origin = False, Origin()
    if out is not None:
        out = Path(out)
        weights = weights_digest(model, *([teacher] if isinstance(teacher, nn.Module) else []))
        origin = Origin(weights, agent_weights=agent_digest(config))
        folder_of_run, run_now = out, Python(name, data, config)
        resumed = first_decides(lambda: is_resumed(folder_of_run, run_now, resume))
        if resumed and first_decides(lambda: (folder_of_run / REPORT).is_file()):
            now = replace(origin, examples=own_data(task))
            first_decides(lambda: now.check(folder_of_run))
            return first_decides(lambda: finished(model, folder_of_run))
        if resumed:
            data = first_decides(lambda: read_data_config(folder_of_run))  # with what was found out
    clock = Stopwatch()
    with restored_modes(model):
        loaded, data, notes = open_for_python(model, task, data, config.seed, name, resumed=resumed)
        options_of_run = Python(name, data, config)
        config, more = without_held_out(config, data)
        tutor = None
        if teacher is not None:
            tutor = check_teacher(Teacher(type(teacher).__name__, teacher), loaded, config.recovery)
        prepared = prepare(model, loaded, config, name=name, teacher=tutor.model if tutor else None)
        run = partial(
            procedure.prune,
            model,
            loaded,
            config,
            prepared=prepared,
            name=name,
            notes=(*notes, *logged(more)),
            clock=clock,
            teacher=tutor,
            callbacks=Callbacks(on_step, on_epoch),
        )
        if out is None:
            return run()
        advice = f"secateur.prune(..., out={str(out)!r}, resume=True)"
        origin = replace(origin, examples=data_fingerprint(loaded))
        with open_folder(out, options_of_run, resumed=resumed, advice=advice, origin=origin) as folder:
            return run(folder=folder)


@speaks_python
def load(factory: nn.Module | Callable[..., nn.Module], folder: str | Path) -> nn.Module:
    """Rebuild the pruned network of a run.

    Args:
        factory: Builds the dense network, with any weights. It gets ``num_classes`` and ``in_channels`` if it
            has these parameters. A network will do, too.
        folder: Folder of a finished run, or of its ``plan.json`` and ``model.safetensors``.

    Returns:
        The pruned network, on the CPU and in evaluation mode.

    Raises:
        TypeError: If the factory is none.
        ValueError: If the files are missing, damaged or of another network, or the factory fails.
    """
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"the folder is {type(folder).__name__}; give the path of a finished run")
    folder = Path(folder)
    return cutting.load_pruned(lambda: _dense(factory, folder), folder).cpu()


def _dense(factory: nn.Module | Callable[..., nn.Module], folder: Path) -> nn.Module:
    """Build the dense network of a folder; without a report, with the factory's own defaults."""
    report = read_report(folder) if (folder / REPORT).is_file() else {}
    outputs, shape = report.get("num_outputs"), report.get("input_shape")
    if outputs and shape:
        return build_with(factory, num_classes=outputs, in_channels=shape[0])
    if isinstance(factory, nn.Module):
        return replica(factory)
    if not callable(factory):
        raise TypeError(f"the factory is {type(factory).__name__}; give a function that returns the network")
    try:
        return factory()
    except TypeError as error:
        raise ValueError(
            f"the factory cannot be called without arguments ({error}), and no report in {folder} says "
            "them; give a function without arguments, such as lambda: build(num_classes=10)"
        ) from error


def _configs(
    function: Callable[..., Any], options: dict[str, Any], task: Data
) -> tuple[PruningConfig, DataConfig]:
    options = checked_keywords(function.__name__, options)
    pruning, data = split_keywords(options, PruningConfig, DataConfig)
    return PruningConfig(**pruning), data_config(task, data)


def _task(model: nn.Module, task: Data, config: DataConfig, seed: int) -> Task:
    check_network(model)
    loaded = load_task(config, seed) if isinstance(task, (str, Path)) else task
    return on_device(loaded, next(model.parameters()).device)
