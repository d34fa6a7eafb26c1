"""What the sources of named networks have in common."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..io.suggestions import did_you_mean
from ..io.untrusted import first_line
from ..io.wording import counted

DEFAULT = "DEFAULT"
"""Name of a network's best published weights, in every source."""


class Sizes(NamedTuple):
    """Sizes that a network is meant for.

    Args:
        shape: Channels, height and width of an image, pixels.
        outputs: Number of classes.
    """

    shape: tuple[int, int, int]
    outputs: int


class Source(Protocol):
    """Builds one named network."""

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the network with random weights, or with those that its factory loads.

        Raises:
            ValueError: If it cannot be built.
        """

    def published(self, weights: str, num_classes: int, in_channels: int) -> Mapping[str, Tensor]:
        """Load published weights by their name.

        Raises:
            ValueError: If there are none of this name, they are for other sizes, or cannot be downloaded.
        """

    def sizes(self) -> Sizes:
        """Return the sizes that the network is meant for, or usual ones if nothing is known."""


def optional_package(package: str, kind: str, requirement: str) -> ModuleType:
    """Import a package that Secateur does not require.

    Args:
        package: Name of the package.
        kind: Prefix of the names that need it, such as ``timm:``.
        requirement: What pip has to install.

    Raises:
        ValueError: If it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ValueError(f"{package} cannot be imported: {first_line(error)}") from error
        raise ValueError(
            f"{kind} names need {package}, which is not installed: pip install {requirement}"
        ) from error


def unknown_weights(weights: str, name: str, known: Sequence[str] = ()) -> str:
    """Make the message for unknown published weights.

    Args:
        weights: Name of the weights.
        name: Name of the network.
        known: All names of its weights.
    """
    names = ", ".join([*known, "or a file"]) if known else "a file that exists"
    return f"there are no weights {weights!r} for {name}{did_you_mean(weights, known)}; give {names}"


def check_sizes(weights: str, name: str, published: tuple[int, int], needed: tuple[int, int]) -> None:
    """Refuse published weights for another number of classes or channels.

    Args:
        weights: Name of the weights.
        name: Name of the network.
        published: Classes and channels of the weights.
        needed: Classes and channels of the data.

    Raises:
        ValueError: If they differ.
    """
    if published != needed:
        raise ValueError(
            f"the weights {weights} of {name} are for {counted(published[0], 'class', 'classes')} and "
            f"{counted(published[1], 'channel')}, the data has {needed[0]} and {needed[1]}: give weights "
            "that were trained on this data, or none"
        )


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn errors of another library into one line; its messages about retried downloads are not printed.

    Args:
        what: What fails, such as "timm:resnet50 cannot be built".
        remedy: What the user can do.

    Raises:
        ValueError: If anything but the memory fails.
    """
    hub = logging.getLogger("huggingface_hub")
    before = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{what} ({first_line(error)}): {remedy}") from error
    finally:
        hub.setLevel(before)
