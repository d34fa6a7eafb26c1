"""Short recoveries of plans, whose networks are compared on images that nothing was chosen by.

A few epochs of the recovery rank plans as all of it would: four epochs rank fifteen with 0.92 (Spearman,
twelve plans of ResNet-20), the accuracy before fine-tuning with -0.5 (sane ones of ``benchmarks/proxy.py``).
Two plans are compared by :func:`secateur.envs.tasks.intervals.drop_interval` of their measurements, in pairs
of outcomes.
"""

from dataclasses import dataclass, replace

from torch import nn

from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batching import Batching
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.before_training import reestimate_and_quantize
from ...envs.recovery.callbacks import Callback
from ...envs.recovery.checkpoint import Checkpoint
from ...envs.recovery.config import RecoveryConfig
from ...envs.recovery.finetuning import finetune
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Measurement, Task, measure


@dataclass(frozen=True)
class Recovered:
    """A plan's network after a short recovery.

    Args:
        model: The network, in evaluation mode; under fake quantisation, if the recovery is.
        measured: Its measurement on val of the judging task, by example.
        seconds: Wall-clock time of the training, that of earlier processes included.
    """

    model: nn.Module
    measured: Measurement
    seconds: float


def recover_briefly(
    problem: PruningProblem,
    plan: PruningPlan,
    judge: Task,
    config: RecoveryConfig,
    epochs: float,
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    on_step: Callback | None = None,
) -> Recovered:
    """Cut a plan from the dense network, fine-tune for a short time, and measure.

    The learning rate takes the course of the whole recovery, from its high rate to zero, in fewer steps.
    Plans with the same seed see the same images in the same order. Under torchrun all ranks call this
    together.

    Args:
        problem: The dense network, with its compensation.
        plan: The plan.
        judge: The task whose train is trained on and whose val is measured; see :func:`.hold_back`.
        config: Settings of the whole recovery.
        epochs: Passes over the training images, at least 0; parts of them are allowed. Above 0 there is at
            least one step; 0 re-estimates batch-norm statistics only.
        teacher: The network to distil from, or None.
        seed: Seed of the order of images and their augmentation.
        checkpoint: Where the state of the training is saved and resumed from; None saves nothing.
        on_step: Called after every step.

    Raises:
        InexactCutError: If the cut network does not compute what the masked one does.
        FloatingPointError: If the loss or the gradient is not finite.
    """
    model = problem.cut(plan)
    reestimate_and_quantize(model, judge, config, seed=seed)
    seconds = 0.0
    if epochs:
        seconds = finetune(
            model,
            judge,
            shortened(config),
            teacher=teacher,
            seed=seed,
            steps=steps_of(epochs, judge, config),
            checkpoint=checkpoint,
            on_step=on_step,
        ).seconds
        reestimate_batchnorm(model, judge, images=config.batchnorm_images, seed=seed)
    return Recovered(model.eval(), measure(model, judge, "val", by_example=True), seconds)


def steps_of(epochs: float, task: Task, config: RecoveryConfig) -> int:
    """Return the number of steps of a short recovery: at least one, unless there are no epochs."""
    return max(1, round(epochs * Batching.of(task, config).steps)) if epochs else 0


def shortened(config: RecoveryConfig) -> RecoveryConfig:
    """Return settings for a short recovery with the high learning rate of the whole one.

    Without this a short one would get the moderate rate that suits its length.
    """
    recipe = config.recipe
    return replace(
        config,
        epochs=max(1, recipe.epochs),
        schedule=recipe.schedule,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        compile=False,  # which would take longer than the training
    )
