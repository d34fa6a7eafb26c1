"""Settings of the training after the cut, and the defaults of a short and of a long training.

No torch is imported here, so that the command line's help answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ..io.ranges import check_real, check_whole, is_number
from ..io.suggestions import unknown_name

Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["one-cycle", "rewinding"]
Distillation = Literal["soft-targets", "logits", "similarity", "relational"]
TrainingPrecision = Literal["auto", "bf16", "fp16", "fp32"]
Quantization = Literal["int8"]

COMPENSATION_IMAGES = 512
"""Default number of images. With 256 or 2048, the mean accuracy of six candidates of ResNet-20 differs by
less than 0.2 points."""

DENSE_EPOCHS = 30
"""Passes over the training images that train a dense network from random weights."""

EPOCHS: Mapping[str, int] = {"quick": 10, "normal": 10, "thorough": 90}
"""Passes over the training images by effort. Ten win back most of what a cut to half of the MACs takes. At 90
the long recipe has paid: structured pruning of ResNet-56 gains 0.5 points with rewinding between 30 and 70
epochs, and 0.1 between 30 and 90 without (the data of Renda et al. 2020, arXiv 2003.02389)."""

LONG = 50
"""Epochs from which on a training is long: below some 50, rewinding does not pay in the same data. With both
schedules ten epochs give the same, and 50 give 1.6 points more with rewinding (benchmarks/recipes.py)."""


@dataclass(frozen=True)
class Recipe:
    """Settings whose defaults depend on the length of the training, resolved.

    Args:
        epochs: Passes over the training images.
        schedule: Course of the learning rate.
        learning_rate: Largest learning rate.
        warmup: Share of the steps in which the learning rate rises, in [0, 1).
    """

    epochs: int
    schedule: Schedule
    learning_rate: float
    warmup: float


_LEARNING_RATES: Mapping[tuple[Optimiser, Schedule], float] = {
    ("sgd", "one-cycle"): 0.02,  # after ten epochs as good as 0.1, see benchmarks/recipes.py
    ("sgd", "rewinding"): 0.1,  # that of the dense networks' training, to which rewinding goes back
    ("adamw", "one-cycle"): 1e-3,
    ("adamw", "rewinding"): 1e-3,  # Adam's own default, Kingma and Ba 2015, arXiv 1412.6980
}

_WARMUPS: Mapping[Schedule, float] = {
    "one-cycle": 0.2,  # Smith and Topin 2018, arXiv 1708.07120, warm up longer, for a higher peak
    "rewinding": 0.05,  # 5 of 90 epochs, Goyal et al. 2017, arXiv 1706.02677
}

_NAMES: Mapping[str, object] = {
    "optimiser": Optimiser,
    "schedule": Schedule,
    "distillation": Distillation,
    "precision": TrainingPrecision,
    "quantize": Quantization,
}
"""Options that are names, with the names that are allowed."""

_SWITCHES = ("train_on_val", "compile")
"""Options that are true or false."""

_WHOLE = {
    "epochs": 0,
    "batch_size": 2,
    "accumulation_steps": 1,
    "batchnorm_images": 0,
    "compensation_images": 0,
}
"""Options that are whole numbers, with the smallest one."""

_BELOW_ONE = ("momentum", "warmup", "ema_decay", "label_smoothing")
"""Options in [0, 1)."""

_REAL = {
    "learning_rate": (0, math.inf, False),
    "weight_decay": (0, math.inf, True),
    "max_grad_norm": (0, math.inf, False),
    "distillation_weight": (0, 1, True),
    "temperature": (0, math.inf, False),
    **dict.fromkeys(_BELOW_ONE, (0, 1, True)),
}
"""Options that are numbers, with their ranges and whether the ends are allowed."""


@dataclass(frozen=True)
class RecoveryConfig:
    """Recovery: how the network is trained after the cut.

    Raises:
        ValueError: If a setting is out of its range, or a name is unknown.
    """

    epochs: int | None = None
    """Passes over the training images; 0 leaves the weights as the cut left them. By default 10, thorough
    90."""
    batch_size: int = 128
    """Images per pass, at least 2; fewer if the task sets a lower limit because its images are large."""
    accumulation_steps: int = 1
    """Passes per step, at least 1; their gradients are averaged, as if a batch were so many times larger."""
    optimiser: Optimiser = "sgd"
    """Optimiser of the fine-tuning: sgd with Nesterov momentum, or adamw."""
    schedule: Schedule | None = None
    """Course of the learning rate: one-cycle or rewinding; both rise linearly and fall to zero by a cosine.
    one-cycle warms up for long to a moderate rate; rewinding (Renda et al. 2020, arXiv 2003.02389) goes back
    to the high rate of a training from scratch. By default rewinding from 50 epochs on, else one-cycle."""
    learning_rate: float | None = None
    """Largest learning rate of the schedule, > 0; by default 0.02 with sgd, 0.1 with sgd and rewinding, 0.001
    with adamw."""
    warmup: float | None = None
    """Share of the steps of the linear warm-up, in [0, 1); by default 0.2 with one-cycle, 0.05 with
    rewinding."""
    momentum: float = 0.9
    """Momentum of sgd, or of the gradient's mean in adamw (beta 1), in [0, 1); sgd has none with 0."""
    weight_decay: float = 5e-4
    """Weight decay, >= 0; norms and biases have none."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient, > 0; a longer one is scaled down to it; by default 5 in networks without
    normalisation layers, and none in others."""
    ema_decay: float = 0.0
    """Decay of the exponential average of weights, in [0, 1); the average over the steps is kept instead of
    the last weights; 0 turns it off. Early steps decay faster, (1 + step) / (10 + step)."""
    label_smoothing: float = 0.0
    """Label smoothing, in [0, 1); the share of each target that all classes share. For tasks with classes."""
    distillation: Distillation | None = None
    """Loss between student and teacher: soft-targets, logits, similarity or relational; soft-targets (Hinton
    et al. 2015, arXiv 1503.02531) and logits (mean squared error) compare the outputs, similarity (Tung and
    Mori 2019, arXiv 1907.09682) and relational (Park et al. 2019, arXiv 1904.05068) the relations of examples
    before the last linear layer. By default the task's own, which is soft-targets for classes."""
    distillation_weight: float = 0.5
    """Weight of the distillation loss, in [0, 1]; 0 trains on the labels alone."""
    temperature: float = 4.0
    """Temperature of the soft targets, > 0."""
    train_on_val: bool = False
    """Train on the images of val, too; the recovery begins after the choice that val is for. Accuracies on
    val mean nothing from then on, and are not given."""
    precision: TrainingPrecision = "auto"
    """Data type of the passes: auto, bf16, fp16 or fp32; auto is bf16 where the machine has instructions for
    it, else fp32. fp16 scales the loss."""
    quantize: Quantization | None = None
    """Train for whole numbers: int8; weights by filter and activations by tensor are rounded to 8 bits while
    the network trains and is chosen (Jacob et al. 2018, arXiv 1712.05877), and secateur export writes them
    with --format onnx-int8 or torchao. By default float."""
    compile: bool = False
    """Compile the network with torch.compile; for long trainings of networks with many small operations."""
    batchnorm_images: int = 2048
    """Training images for re-estimating batch-norm statistics; 0 keeps the statistics."""
    compensation_images: int = COMPENSATION_IMAGES
    """Training images for fitting the kept channels that make up for removed ones; 0 turns this off."""

    advanced: ClassVar[bool] = True
    """Whether the short help only names the options."""

    def __post_init__(self) -> None:
        for name, kind in _NAMES.items():
            if getattr(self, name) not in (*get_args(kind), getattr(type(self), name)):
                raise ValueError(unknown_name(name, getattr(self, name), get_args(kind)))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give true or false")
        for name in (*_WHOLE, *_REAL):
            value = getattr(self, name)
            if value is None and getattr(type(self), name) is None:
                continue
            if name in _WHOLE:
                check_whole(name, value, _WHOLE[name])
            elif name in _BELOW_ONE and is_number(value) and value >= 1:
                raise ValueError(f"{name} is {value:g}; allowed is 0 to below 1")
            else:
                least, most, ends = _REAL[name]
                check_real(name, value, least, most, ends=ends)

    @property
    def recipe(self) -> Recipe:
        """The settings that depend on the length of the training, with defaults resolved."""
        epochs = EPOCHS["normal"] if self.epochs is None else self.epochs
        schedule: Schedule = self.schedule or ("rewinding" if epochs >= LONG else "one-cycle")
        rate = _LEARNING_RATES[self.optimiser, schedule] if self.learning_rate is None else self.learning_rate
        warmup = _WARMUPS[schedule] if self.warmup is None else self.warmup
        return Recipe(epochs, schedule, rate, warmup)

    @classmethod
    def from_scratch(cls, epochs: int = DENSE_EPOCHS) -> RecoveryConfig:
        """Return settings for training a dense network from random weights."""
        return cls(epochs=epochs, schedule="one-cycle", learning_rate=0.1, distillation_weight=0.0)
