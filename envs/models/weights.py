"""Load trained weights into a network, or explain in one sentence why they do not fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..io.tensor_files import check_numbers, read_tensors
from ..io.untrusted import first_line, short
from .pickles import check_pickle

SUFFIXES = (".safetensors", ".pt", ".pth")
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # keys under which training scripts save the weights
_PREFIXES = ("module.", "_orig_mod.")  # left by DataParallel and torch.compile
_SHOWN = 3  # keys that a message names

# Of GoogLeNet, Inception and segmentation networks: only training uses them, and some files lack them.
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")

# torchvision's files of DenseNet still call norm1 of a layer norm.1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights of a file into a network, in place.

    Weights of torchvision's auxiliary heads are ignored if the network has no such heads.

    Args:
        model: The network; its parameters keep their type and device.
        path: A ``.safetensors``, ``.pt`` or ``.pth`` file with a state dict.

    Raises:
        ValueError: If the file is missing or unreadable, its keys, shapes or types are not those of the
            network, or it holds infinite or undefined numbers.
    """
    fill(model, read_state_dict(path), f"the weights in {path}")


def fill(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network like :func:`load_weights`; ``source`` names it in messages."""
    target = model.state_dict()
    given = {_OLD_DENSENET.sub(r"\1\2.", key): tensor for key, tensor in state.items()}
    heads = tuple(head for head in _AUXILIARY_HEADS if not any(key.startswith(head) for key in target))
    given = {key: tensor for key, tensor in given.items() if not key.startswith(heads)}
    if misfit := _misfit(target, given):
        raise ValueError(f"{source} do not fit {type(model).__name__}: {misfit}")
    check_numbers(given, target, source)
    # Not load_state_dict: MNASNet's needs a version number, which safetensors files do not hold.
    with torch.no_grad():
        for key, tensor in given.items():
            target[key].copy_(tensor)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint without running code from it.

    Args:
        path: A ``.safetensors``, ``.pt`` or ``.pth`` file.

    Raises:
        ValueError: If the file is missing, of another format, damaged, or holds more than tensors.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"weights come as {', '.join(SUFFIXES)} files, got {path}")
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    state = read_tensors(path)[0] if path.suffix == ".safetensors" else _unpickled(path)
    return _unwrapped(state, path)


def _unpickled(path: Path) -> object:
    try:
        check_pickle(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds Python objects beside tensors, which are not loaded for safety: "
            "save model.state_dict() instead of the model"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} cannot be read as weights: {first_line(error)}") from error


def _unwrapped(state: object, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state dict")
    if not all(isinstance(key, str) for key in state):
        raise ValueError(f"{path} holds no state dict: its keys are not all names")
    tensors = dict(state)
    other_keys = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if other_keys or not tensors:
        raise ValueError(
            f"{path} holds no state dict: "
            + (f"{_listed(other_keys)} is not a tensor" if other_keys else "it is empty")
            + f"; save model.state_dict(), alone or under the key {_WRAPPERS[0]!r}"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _misfit(target: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """List the keys that are missing, unexpected or of another shape; "" if all fit."""
    missing = [k for k in target if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in target]
    reshaped = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(target[k].shape)}"
        for k in target
        if k in given and given[k].shape != target[k].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return "; ".join(f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in kinds.items() if keys)


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(map(short, keys[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")
