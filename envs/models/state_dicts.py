"""Find the state dict in a checkpoint, and the prefix of its names.

Training scripts save weights beside other things and under names of their own: Lightning's are
``state_dict/model.conv1.weight``, those of ``DataParallel`` ``module.conv1.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ..io.untrusted import short
from .pickles import Unknown

StateDict = Mapping[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
"""Keys of the weights, in the order of preference; those of averaged weights, such as ``ema``, come last."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes left by DataParallel, torch.compile and wrapping modules, in the order of preference."""

_MAX_DEPTH = 4
"""Allowed nesting of mappings around a state dict."""


def find_state_dict(content: object, target: StateDict, path: Path) -> dict[str, Tensor]:
    """Find the tensors for a network in the content of a checkpoint.

    Args:
        content: The content of a file.
        target: State dict of the network.
        path: The file, for messages.

    Returns:
        The tensors under the network's names if there are such; else those that share most names with it.

    Raises:
        ValueError: If there is no state dict.
    """
    found = list(_candidates(content, _MAX_DEPTH))
    if not found:
        raise ValueError(_refusal(content, path))
    stripped = [without_prefix(candidate, target) for candidate in found]

    def similarity(state: StateDict) -> tuple[int, int]:
        common = len(state.keys() & target.keys())
        return common, 0 if common else len(state)  # of networks with other names, the largest

    return max(stripped, key=similarity)  # the first one of equals


def without_prefix(state: StateDict, target: StateDict) -> dict[str, Tensor]:
    """Remove the prefix without which the names are those of a network.

    Args:
        state: A state dict.
        target: State dict of the network.

    Returns:
        The entries with that prefix, without it. If there is no such prefix, or several that cannot be told
        apart, all entries, without known prefixes that all of them have.
    """
    needed = [key for key in target if not key.endswith("num_batches_tracked")]
    if needed:
        ends = (key.removesuffix(needed[0]) for key in state if key.endswith(needed[0]))
        prefixes: list[str] = [
            prefix
            for prefix in ends
            if (not prefix or prefix.endswith(".")) and all(prefix + key in state for key in needed)
        ]
        known = sorted((prefix for prefix in prefixes if _rank(prefix)), key=_rank)
        for prefix in known[:1] or (prefixes if len(prefixes) == 1 else []):
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    tensors = dict(state)
    while common := next((p for p in _PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(common): value for key, value in tensors.items()}
    return tensors


def _rank(prefix: str) -> int:
    """Return a number that is lower for a more usual prefix, and 0 if it has parts that are unknown."""
    parts = [f"{part}." for part in prefix.split(".")[:-1]]
    return 1 + sum(1 + _PREFIXES.index(part) for part in parts) if set(parts) <= set(_PREFIXES) else 0


def _candidates(content: object, depth: int) -> Iterator[dict[str, Tensor]]:
    """Yield all mappings from names to tensors, the most usual ones first."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield tensors
    if depth:
        usual = [key for key in _WRAPPERS if key in content]
        for key in (*usual, *(key for key in content if key not in usual)):
            yield from _candidates(content[key], depth - 1)


def _refusal(content: object, path: Path) -> str:
    if isinstance(content, Mapping) and content and not all(isinstance(key, str) for key in content):
        return f"{path} holds no state dict: its keys are not all names"
    values = [content, *content.values()] if isinstance(content, Mapping) else [content]
    unknown = next((value for value in values if isinstance(value, Unknown)), None)
    if unknown is not None:
        given = f"a Python object ({short(type(unknown).__name__)}), which is not loaded for safety"
    elif isinstance(content, Mapping):
        given = (
            f"no tensors under {', '.join(short(key) for key in [*content][:3])}" if content else "nothing"
        )
    else:
        given = f"a {type(content).__name__}"
    return f"{path} holds no state dict but {given}: save model.state_dict() instead of the model"
