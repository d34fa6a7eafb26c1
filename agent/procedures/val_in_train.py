"""Whether the recovery trains on the images of val, too."""

from dataclasses import replace
from typing import TypeVar

from ...envs.recovery.config import RecoveryConfig
from .data_config import DataConfig

Config = TypeVar("Config", bound=RecoveryConfig)


def without_held_out(config: Config, data: DataConfig) -> tuple[Config, tuple[str, ...]]:
    """Leave val out of the training if it is one half of the held-out images.

    The other half is the report's test. The two halves are disjoint, but a network that was trained on one of
    them is not comparable with others on that data set.

    Args:
        config: The options of the run.
        data: The data options, with what was found out.

    Returns:
        The options, and sentences for the report.
    """
    if not config.train_on_val or data.val_from != "test":
        return config, ()
    note = (
        "val is one half of the held-out images (--val-from test), so the recovery does not train on it in "
        "spite of --train-on-val; train has all training images already."
    )
    return replace(config, train_on_val=False), (note,)
