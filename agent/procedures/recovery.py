"""The recovery of a cut network: statistics of batch-norm, fine-tuning, and statistics again."""

from dataclasses import asdict
from typing import Any

from torch import nn

from ...envs.io.wording import counted
from ...envs.modules.precision import precision_on
from ...envs.quantization.insertion import float_notes
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.before_training import reestimate_and_quantize
from ...envs.recovery.callbacks import Callbacks
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import TrainingSummary, finetune
from ...envs.recovery.optimisation import largest_gradient
from ...envs.recovery.training_check import check_training
from ...envs.tasks import Measurement, Task, measure
from ...envs.tasks.intervals import drop_interval
from ...envs.tasks.joined import with_val_in_train
from ...envs.tasks.optional_members import metric_name
from ..run.folder import RunFolder
from ..run.recovery_monitor import RecoveryMonitor
from .config import PruningConfig
from .preparation import logged
from .teacher import Teacher


def recover_in_place(
    model: nn.Module,
    task: Task,
    config: RecoveryConfig,
    teacher: nn.Module | None,
    seed: int,
    callbacks: Callbacks,
) -> None:
    """Recover a network outside a run; nothing is written.

    Args:
        model: The cut network; with ``quantize`` it is under fake quantisation then.
        task: Data, loss and metric.
        config: Settings of the training.
        teacher: The network to distil from, or None.
        seed: Seed of the order of images and their augmentation.
        callbacks: The user's callbacks.

    Raises:
        ValueError: If the network cannot be trained with the task.
        FloatingPointError: If the loss or the gradient is not finite.
    """
    training = with_val_in_train(task) if config.train_on_val else task
    if config.epochs:
        logged(check_training(model, training, config, teacher))
    reestimate_and_quantize(model, task, config, seed=seed)
    if config.quantize:
        logged(float_notes(model))
    if not config.epochs:
        return
    measured = None if config.train_on_val else task
    with RecoveryMonitor(measured, None, prefix="recovery", callbacks=callbacks) as monitor:
        summary = finetune(
            model,
            training,
            config,
            teacher=teacher,
            seed=seed,
            val_images=monitor.val_images,
            on_step=monitor.on_step,
            on_epoch=monitor.on_epoch,
        )
    logged(_ended_early(summary, config))
    reestimate_batchnorm(model, training, images=config.batchnorm_images, seed=seed)


def recover_pruned(
    pruned: nn.Module,
    teacher: Teacher | None,
    task: Task,
    config: PruningConfig,
    folder: RunFolder | None,
    callbacks: Callbacks,
    *,
    name: str = "recovery",
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Re-estimate batch-norm statistics, fine-tune with distillation, and re-estimate again.

    Args:
        pruned: The cut network; it is changed in place. With ``quantize`` it is under fake quantisation then.
        teacher: The network to distil from, or None.
        task: Data, loss and metric.
        config: The options of the run.
        folder: Folder of the run; None writes nothing.
        callbacks: The user's callbacks.
        name: Name of the recovery in TensorBoard and among the checkpoints, where a run has several.

    Returns:
        The report's entries on the recovery, and notes for it.
    """
    recovery, logger = config.recovery, folder.logger if folder else None
    knows_val = recovery.train_on_val and recovery.recipe.epochs > 0
    training = with_val_in_train(task) if knows_val else task

    def reestimate(training: Task) -> Measurement:
        reestimate_batchnorm(pruned, training, images=recovery.batchnorm_images, seed=config.seed)
        return measure(pruned, task, "val", limit=config.choice_images, by_example=True)

    if recovery.quantize:
        reestimate_and_quantize(pruned, task, recovery, seed=config.seed)
    before = reestimate(task)
    after: Measurement | None = before
    if logger is not None:
        logger.record(f"{name}/val_accuracy", before.accuracy)
        logger.dump(0)
    seconds, losses = 0.0, []
    notes = float_notes(pruned) if recovery.quantize else ()
    if recovery.epochs:
        measured = None if knows_val else task
        with RecoveryMonitor(measured, folder, prefix=name, callbacks=callbacks) as monitor:
            summary = finetune(
                pruned,
                training,
                recovery,
                teacher=teacher.model if teacher else None,
                seed=config.seed,
                checkpoint=folder.checkpoint(name) if folder else None,
                val_images=monitor.val_images,
                on_step=monitor.on_step,
                on_epoch=monitor.on_epoch,
            )
        after = reestimate(training)
        if knows_val:
            after = None  # it would say nothing
        seconds, losses = summary.seconds, [round(loss, 4) for loss in summary.losses]
        notes += (*_ended_early(summary, recovery), *_worse(task, before, after, recovery))
    pruned.eval()
    entries = {
        **asdict(recovery),
        **asdict(recovery.recipe),
        "max_grad_norm": largest_gradient(pruned, recovery),
        "precision": precision_on(next(pruned.parameters()).device, recovery.precision),
        "teacher": teacher.name if teacher else None,
        "distillation": (recovery.distillation or "of the task") if teacher else None,
        "seconds": round(seconds, 1),
        "losses": losses,
        "val_accuracy_before": before.accuracy,
        "val_accuracy_after": None if after is None else after.accuracy,
    }
    return entries, notes


def _ended_early(summary: TrainingSummary, config: RecoveryConfig) -> tuple[str, ...]:
    """Say when a callback ended the fine-tuning; nothing if none did."""
    if not summary.stopped:
        return ()
    return (
        f"A callback ended the fine-tuning after {summary.stopped}, of "
        f"{counted(config.recipe.epochs, 'epoch')}.",
    )


def _worse(
    task: Task, before: Measurement, after: Measurement | None, config: RecoveryConfig
) -> tuple[str, ...]:
    """Say when the fine-tuning made the network worse by more than the noise; nothing if it did not.

    Where the noise is unknown, more than a hundredth is too much.
    """
    if after is None:
        return ()
    interval, drop = drop_interval(task, before, after), before.accuracy - after.accuracy
    if not (drop > abs(before.accuracy) / 100 if interval is None else interval[0] > 0):
        return ()
    return (
        f"Fine-tuning made the network worse: {metric_name(task)} on val was {before.accuracy:.4g} before "
        f"and {after.accuracy:.4g} after; give a lower --learning-rate, now "
        f"{config.recipe.learning_rate:g}, or --epochs 0.",
    )
