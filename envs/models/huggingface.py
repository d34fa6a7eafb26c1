"""Image classifiers of Hugging Face: ``hf:microsoft/resnet-50``, or ``hf:./folder`` for a local one.

Code of a repository is never run: only architectures of the package transformers are built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .sources import DEFAULT, Sizes, check_sizes, explained, optional_package, unknown_weights

_REMEDY = "give an image classifier of Hugging Face as hf:owner/name, or a folder with its config.json"


@dataclass(frozen=True)
class HuggingFaceSource:
    """Build an image classifier of Hugging Face, which returns its logits in a tuple."""

    repository: str

    def __post_init__(self) -> None:
        is_path = self.repository.startswith((".", "/", "~"))
        if is_path and not (Path(self.repository) / "config.json").is_file():
            raise ValueError(f"there is no {self.repository}/config.json, which hf:{self.repository} needs")

    @cached_property
    def _config(self) -> Any:
        """The architecture, from the cache if it is there."""
        transformers = _transformers()
        with explained(f"hf:{self.repository} cannot be read", f"{_REMEDY}; if you are offline, it has to be "
                       "in the cache"), _quiet(transformers):  # fmt: skip
            try:
                return transformers.AutoConfig.from_pretrained(self.repository, local_files_only=True)
            except OSError:
                return transformers.AutoConfig.from_pretrained(self.repository)

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the network with random weights."""
        transformers = _transformers()
        config = type(self._config).from_dict(self._config.to_dict())
        if config.num_labels != num_classes:
            config.num_labels = num_classes
        if getattr(config, "num_channels", 3) != in_channels:
            config.num_channels = in_channels
        config.return_dict = False
        with explained(f"hf:{self.repository} cannot be built", _REMEDY), _quiet(transformers):
            model: nn.Module = transformers.AutoModelForImageClassification.from_config(config)
        return model

    def published(self, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
        """Load the weights of the repository, which are called ``DEFAULT``."""
        name = f"hf:{self.repository}"
        if weights != DEFAULT:
            raise ValueError(unknown_weights(weights, name, [DEFAULT]))
        sizes = self._config.num_labels, getattr(self._config, "num_channels", 3)
        check_sizes(weights, name, sizes, (num_classes, in_channels))
        transformers = _transformers()
        with explained(f"the weights of {name} cannot be loaded", "go online, or give a file"), \
             _quiet(transformers):  # fmt: skip
            model, found = transformers.AutoModelForImageClassification.from_pretrained(
                self.repository, output_loading_info=True
            )
        if missing := sorted(found["missing_keys"]):
            raise ValueError(
                f"{name} has no trained {missing[0]}: it is no image classifier; give one, or train without "
                "--weights"
            )
        return dict(model.state_dict())

    def sizes(self) -> Sizes:
        """Return the image size and classes of the configuration, 224 pixels if it has none."""
        side = getattr(self._config, "image_size", 224)
        height, width = (side, side) if isinstance(side, int) else side
        return Sizes((getattr(self._config, "num_channels", 3), height, width), self._config.num_labels)


def _transformers() -> Any:
    return optional_package("transformers", "hf:", "transformers")


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the warnings and progress bars of transformers off the terminal."""
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()
