"""The ranges of activations as plain data, and their file in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from ..io.atomic_write import write_atomically
from ..io.run_files import RANGES
from ..io.untrusted import first_line, parse_json, read_text, short
from .fake import ActivationRange, Quantized, quantized_layers

Ranges: TypeAlias = Mapping[str, Mapping[str, tuple[float, float]]]
"""The ends of each range: by the layer's name, then ``input`` and, if that is rounded, ``output``."""

_LARGEST = 3e38
"""Largest end of a range, about that of float32."""


def ranges_of(model: nn.Module) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the ranges of a network under fake quantisation; empty if it is not."""
    return {
        name: {end: (float(one.low), float(one.high)) for end, one in _ends(layer).items()}
        for name, layer in quantized_layers(model).items()
    }


def set_ranges(model: nn.Module, ranges: Ranges) -> None:
    """Set the ranges of a network under fake quantisation, in place.

    Raises:
        ValueError: If they are those of another network.
    """
    layers = quantized_layers(model)
    wanted = {(name, end) for name, layer in layers.items() for end in _ends(layer)}
    given = {(name, end) for name, ends in ranges.items() for end in ends}
    if differing := sorted(wanted ^ given):
        name, end = differing[0]
        raise ValueError(
            f"the ranges do not fit this network: the {end} of {short(name)} is in only one of them "
            f"({len(differing)} differ)"
        )
    for name, layer in layers.items():
        for end, one in _ends(layer).items():
            low, high = ranges[name][end]
            one.low.fill_(low)
            one.high.fill_(high)


def save_ranges(ranges: Ranges, folder: Path) -> None:
    """Write ``int8.json`` into an existing folder, atomically."""
    text = json.dumps(ranges, indent=1) + "\n"
    write_atomically(folder / RANGES, lambda path: path.write_text(text, encoding="utf-8"))


def load_ranges(folder: Path) -> dict[str, dict[str, tuple[float, float]]] | None:
    """Read the ranges of a run; None if it was not trained under quantisation.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / RANGES
    if not path.is_file():
        return None
    try:
        return _checked(parse_json(read_text(path)))
    except ValueError as error:
        raise ValueError(f"{path} does not hold ranges: {first_line(error)}") from error


def _checked(content: Any) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the ranges of a file; refuse what is not two finite numbers in order for each end of a layer."""
    try:
        found = {
            name: {end: (float(low), float(high)) for end, (low, high) in ends.items()}
            for name, ends in content.items()
        }
        pairs = [pair for ends in found.values() for pair in ends.values()]
        if all(-_LARGEST <= low <= high <= _LARGEST for low, high in pairs):
            return found
    except (AttributeError, TypeError, ValueError):
        pass
    raise ValueError("each layer's input needs a lower and an upper end, finite and in this order")


def _ends(layer: Quantized) -> dict[str, ActivationRange]:
    ends = {"input": layer.input_range, "output": layer.output_range}
    return {end: one for end, one in ends.items() if isinstance(one, ActivationRange)}
