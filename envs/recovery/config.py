"""How a network is trained after the cut."""

from __future__ import annotations

from dataclasses import dataclass

COMPENSATION_IMAGES = 512
"""Enough: with 256 or 2048, six candidates of ResNet-20 are as accurate within 0.2 points in the mean."""

DENSE_EPOCHS = 30
"""Passes over the training images that train a dense network from random weights."""


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
        limits = {
            "epochs": (self.epochs >= 0, "at least 0"),
            "batch_size": (self.batch_size >= 2, "at least 2"),
            "learning_rate": (self.learning_rate > 0, "greater than 0"),
            "momentum": (0 < self.momentum < 1, "between 0 and 1"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "distillation_weight": (0 <= self.distillation_weight <= 1, "between 0 and 1"),
            "temperature": (self.temperature > 0, "greater than 0"),
            "batchnorm_images": (self.batchnorm_images >= 0, "at least 0"),
            "compensation_images": (self.compensation_images >= 0, "at least 0"),
        }
        for name, (held, limit) in limits.items():
            if not held:
                raise ValueError(f"{name} has to be {limit}, got {getattr(self, name)}")

    @classmethod
    def from_scratch(cls, epochs: int = DENSE_EPOCHS) -> RecoveryConfig:
        """Give the settings that train a dense network from random weights."""
        return cls(epochs=epochs, learning_rate=0.1, distillation_weight=0.0)
