"""The functions of ``import secateur``: search, cut, recover, prune and load.

Keywords are the options of ``secateur prune``, with underscores.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...envs.io.run_files import CONFIG, PLAN, REPORT
from ...envs.io.untrusted import parse_json, read_text
from ...envs.models.factories import build_with
from ...envs.modules.calls import AlsoTrace
from ...envs.modules.copying import replica
from ...envs.modules.digest import weights_digest
from ...envs.modules.modes import restored_modes
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.compensation import Compensation
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import finetune
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.recovery.training_check import check_training
from ...envs.surgery import cutting
from ...envs.surgery.plan import PruningPlan
from ...envs.surgery.verification import trace_exactly, verify_cut
from ...envs.tasks import Task
from ...envs.tasks.user_task import check_task, on_device
from ..run.flat_options import flat_options, options_of, read_config
from ..run.folder import RunFolder, check_same_weights
from ..run.recovery_monitor import RecoveryMonitor
from . import prune as procedure
from .config import PruningConfig
from .data_config import FOUND_OUT, DataConfig, read_data_config
from .devices import engine_of
from .keywords import checked_keywords, split_keywords
from .loading import load_task
from .opening import Dense, describe_own_task, open_job
from .options import EngineOptions
from .preparation import logged, prepare
from .prune import PruningResult
from .search import prune_at_once

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


def search(model: nn.Module, task: Data, **options: Any) -> PruningPlan:
    """Choose the filters that stay; nothing is trained, written or changed.

    Args:
        model: The trained network.
        task: Data, loss and metric; or the name of a data set or a folder of images, as for ``--data``.
        **options: Options of ``secateur prune``, such as ``target_macs=0.5`` and ``effort="quick"``.

    Returns:
        The plan, for :func:`cut`.

    Raises:
        ValueError: If an option is unknown or wrong, nothing can be pruned, or the target cannot be met.
    """
    config, data = _configs(search, options, task)
    if config.procedure != "network":
        raise ValueError("search prunes all layers at once; for layerwise, which trains, call prune")
    _check_network(model)
    with restored_modes(model):
        loaded, data, _ = _open(model, task, data, config.seed, type(model).__name__)
        prepared = prepare(model, loaded, config, trains=False)
        with engine_of(config, model) as engine:
            problem = PruningProblem.build(
                type(model).__name__,
                model.eval(),
                loaded,
                network=prepared.network,
                images=config.search_images,
                compensation_images=config.compensation_images,
                engine=engine,
                seed=config.seed,
            )
            return prune_at_once(problem, prepared.goal, config, None).plan


def cut(
    model: nn.Module,
    plan: PruningPlan,
    *,
    task: Task | None = None,
    example: Tensor | None = None,
    also_trace: AlsoTrace | Iterable[AlsoTrace] = (),
    size: Mapping[str, str] | None = None,
    allow_inexact: Collection[str] = (),
) -> nn.Module:
    """Remove the filters that a plan does not keep, and verify the result.

    Args:
        model: The dense network; it is not changed.
        plan: The plan of a search or a run.
        task: Data with which the kept channels are adapted to make up for the removed ones, in closed form;
            None leaves their weights as they are.
        example: A batch of inputs, for networks whose plan does not say the shape of one.
        also_trace: As for ``secateur.trace``, if the plan was made with it.
        size: As for ``secateur.trace``, if the plan was made with it.
        allow_inexact: As for ``secateur.trace``, if the plan was made with it.

    Returns:
        A smaller network, which computes what the dense one computes without these filters.

    Raises:
        ValueError: If the plan was made for another network, or an example is needed.
        TypeError: If the plan is no plan, such as a path.
        InexactCutError: If the smaller network does not compute what the masked one does.
    """
    if not isinstance(plan, PruningPlan):
        given = type(plan).__name__
        raise TypeError(f"the plan is {given}; give a PruningPlan, such as PruningPlan.from_json(text)")
    if example is None:
        if plan.input_shape is None:
            raise ValueError("the plan does not say the shape of an input; give example=, a batch of inputs")
        example = torch.zeros(2, *plan.input_shape, device=next(model.parameters()).device)
    network = trace_exactly(model, example, also_trace=also_trace, size=size, allow_inexact=allow_inexact)
    whole = PruningPlan.dense(network)
    if set(plan.kept) < set(whole.kept):  # protected layers are not in a plan
        plan = replace(plan, kept={**whole.kept, **plan.kept}, filters={**whole.filters, **plan.filters})
    verify_cut(model, network, plan, example)
    if task is not None:
        task = on_device(task, next(model.parameters()).device)
        model = Compensation(model, network, task).compensated_copy(model, plan.masks(network))
    return cutting.cut(model, network, plan)


def recover(
    model: nn.Module, task: Data, *, teacher: nn.Module | None = None, seed: int = 0, **options: Any
) -> nn.Module:
    """Fine-tune a cut network in place, with its batch-norm statistics re-estimated before and after.

    Args:
        model: The cut network.
        task: Data and loss, as for :func:`search`.
        teacher: The dense network, whose outputs are distilled; None trains on the labels alone.
        seed: Seed of the order of images and their augmentation.
        **options: Options of the recovery and of the data, such as ``epochs=10`` and ``learning_rate=0.01``.

    Returns:
        The same network, in evaluation mode.

    Raises:
        ValueError: If an option is unknown or wrong, or the network cannot be trained with the task.
        FloatingPointError: If the loss or the gradient is not finite.
    """
    recovery, data = split_keywords(checked_keywords("recover", options), RecoveryConfig, DataConfig)
    config = RecoveryConfig(**recovery)
    loaded = _task(model, task, _data_config(task, data), seed)
    if config.epochs:
        logged(check_training(model, loaded, config, teacher))
    reestimate_batchnorm(model, loaded, images=config.batchnorm_images, seed=seed)
    if config.epochs:
        with RecoveryMonitor(model, loaded, None, prefix="recovery") as monitor:
            finetune(model, loaded, config, teacher=teacher, seed=seed, on_step=monitor.on_step)
        reestimate_batchnorm(model, loaded, images=config.batchnorm_images, seed=seed)
    return model.eval()


def prune(
    model: nn.Module,
    task: Data,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    **options: Any,
) -> PruningResult:
    """Prune a trained network: choose the filters, cut, fine-tune, and report.

    Args:
        model: The trained network; its weights are not changed.
        task: Data, loss and metric; or the name of a data set or a folder of images, as for ``--data``.
        out: Folder of the run, new or empty; None writes nothing.
        resume: Whether to continue an interrupted run in ``out``, with the same options, to the same result.
            A finished run is loaded; a new one begins if there is none.
        name: Name of the network in the report; by default that of its class.
        **options: Options of ``secateur prune``, such as ``target_macs=0.5``, ``effort="quick"``.

    Returns:
        The pruned network, the plan and the report.

    Raises:
        ValueError: If an option is unknown or wrong, nothing can be pruned, the target cannot be met, or
            ``out`` holds another run.
        KeyboardInterrupt: If the run is interrupted; with ``out`` it can be resumed.
    """
    config, data = _configs(prune, options, task)
    _check_network(model)
    name = name or type(model).__name__
    resumed, digest = False, ""
    if out is not None:
        out = Path(out)
        digest = weights_digest(model)
        resumed = _is_resumed(out, Python(name, data, config), resume)
        if resumed and (out / REPORT).is_file():
            check_same_weights(out, digest)
            return _finished(model, out)
        if resumed:
            data = read_data_config(out)  # with what was found out
    clock = Stopwatch()
    with restored_modes(model):
        loaded, data, notes = _open(model, task, data, config.seed, name, resumed=resumed)
        prepared = prepare(model, loaded, config, name=name)
        run = partial(
            procedure.prune, model, loaded, config, prepared=prepared, name=name, notes=notes, clock=clock
        )
        if out is None:
            return run()
        advice = f"secateur.prune(..., out={str(out)!r}, resume=True)"
        options_of_run = Python(name, data, config)
        with RunFolder(out, options_of_run, resumed=resumed, advice=advice, dense_weights=digest) as folder:
            return run(folder=folder)


def load(factory: nn.Module | Callable[..., nn.Module], folder: str | Path) -> nn.Module:
    """Rebuild the pruned network of a run.

    Args:
        factory: Builds the dense network, with any weights. It gets ``num_classes`` and ``in_channels`` if it
            has these parameters. A network will do, too.
        folder: Folder of a finished run, or of its ``plan.json`` and ``model.safetensors``.

    Returns:
        The pruned network, on the CPU and in evaluation mode.

    Raises:
        ValueError: If the files are missing, damaged or of another network, or the factory fails.
    """
    folder = Path(folder)
    return cutting.load_pruned(lambda: _dense(factory, folder), folder).cpu()


def _dense(factory: nn.Module | Callable[..., nn.Module], folder: Path) -> nn.Module:
    """Build the dense network of a folder; without a report, with the factory's own defaults."""
    report = parse_json(read_text(folder / REPORT)) if (folder / REPORT).is_file() else {}
    outputs, shape = report.get("num_outputs"), report.get("input_shape")
    if outputs and shape:
        return build_with(factory, num_classes=outputs, in_channels=shape[0])
    if isinstance(factory, nn.Module):
        return replica(factory)
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
    return PruningConfig(**pruning), _data_config(task, data)


def _data_config(task: Data, options: dict[str, Any]) -> DataConfig:
    if isinstance(task, (str, Path)):
        return DataConfig(data=str(task), **options)
    if options:
        raise ValueError(f"the task brings its own data; leave out {next(iter(options))}")
    return DataConfig()


def _task(model: nn.Module, task: Data, config: DataConfig, seed: int) -> Task:
    _check_network(model)
    loaded = load_task(config, seed) if isinstance(task, (str, Path)) else task
    return on_device(loaded, next(model.parameters()).device)


def _check_network(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is {type(model).__name__}; give an nn.Module")


def _open(
    model: nn.Module, task: Data, config: DataConfig, seed: int, name: str, *, resumed: bool = False
) -> tuple[Task, DataConfig, tuple[str, ...]]:
    """Load the data, check them with the network, and say on the terminal what they are.

    Returns:
        The task, the data options with what was found out, and notes for the report.
    """
    _check_network(model)
    device = next(model.parameters()).device
    if isinstance(task, (str, Path)):
        opened = open_job(config, [Dense(name, lambda task, seed: model.eval())], seed, resumed=resumed)
        return on_device(opened.task, device), opened.data, opened.notes
    loaded = on_device(task, device)
    if not resumed:
        check_task(loaded)
        describe_own_task(loaded, name, model)
    return loaded, config, ()


def _is_resumed(out: Path, run: Python, resume: bool) -> bool:
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


def _finished(model: nn.Module, out: Path) -> PruningResult:
    plan = PruningPlan.from_json(read_text(out / PLAN))
    pruned = cutting.load_pruned(lambda: replica(model).cpu(), out)
    pruned = pruned.to(next(model.parameters()).device)
    return PruningResult(pruned, plan, parse_json(read_text(out / REPORT)))
