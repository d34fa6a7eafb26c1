"""How a network is trained after the cut."""

from __future__ import annotations

from dataclasses import dataclass

from ..io.ranges import check_real, check_whole
from .compensation import COMPENSATION_IMAGES


@dataclass(frozen=True)
class RecoveryConfig:
    """How a network is trained after the cut.

    Raises:
        ValueError: If a number is out of its range.
    """

    epochs: int = 10
    """Passes over the training images; 0 leaves the weights as the cut left them."""
    batch_size: int = 128
    """Images a step, at least 2; fewer where the task's images are large and it says so."""
    learning_rate: float = 0.02
    """The largest one of the cycle, > 0."""
    momentum: float = 0.9
    """Nesterov's, in (0, 1)."""
    weight_decay: float = 5e-4
    """Pull of all weights towards zero, >= 0."""
    distillation_weight: float = 0.5
    """Share of the dense network's answers in the loss, in [0, 1]; 0 trains on the labels alone."""
    temperature: float = 4.0
    """Softens both networks' answers where they are classes and compared, > 0."""
    batchnorm_images: int = 2048
    """Training images that batch-norm statistics are re-estimated from; 0 keeps the statistics."""
    compensation_images: int = COMPENSATION_IMAGES
    """Training images that tell how kept channels make up for removed ones; 0 lets these just go."""

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 0)
        check_whole("batch_size", self.batch_size, 2)
        check_real("learning_rate", self.learning_rate, 0, ends=False)
        check_real("momentum", self.momentum, 0, 1, ends=False)
        check_real("weight_decay", self.weight_decay, 0)
        check_real("distillation_weight", self.distillation_weight, 0, 1)
        check_real("temperature", self.temperature, 0, ends=False)
        check_whole("batchnorm_images", self.batchnorm_images, 0)
        check_whole("compensation_images", self.compensation_images, 0)

    @classmethod
    def from_scratch(cls, epochs: int = 30) -> RecoveryConfig:
        """Give the settings that train a dense network from random weights."""
        return cls(epochs=epochs, learning_rate=0.1, distillation_weight=0.0)
