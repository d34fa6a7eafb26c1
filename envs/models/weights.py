"""Load trained weights into a network, or explain in one sentence why they do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..io.tensor_files import check_numbers, read_tensors
from ..io.untrusted import short
from ..io.wording import counted
from .pickles import read_pickled
from .state_dicts import find_state_dict

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar", ".pkl", ".pickle", ".weights")
"""Usual endings of files with weights; the format is recognised by the content."""

_OTHER_FORMATS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the weights: run git lfs pull",
    b"<": "a web page or XML, not the weights: download the file itself",
    b"\x89HDF": "an HDF5 file: save the state dict with torch.save or safetensors",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\x08": "probably an ONNX file: give the state dict that it was exported from",
    b"": "empty",
}
"""What files are that cannot be read, by their first bytes."""

_SHOWN = 3  # keys that a message names

# Of GoogLeNet, Inception and segmentation networks: only training uses them, and some files lack them.
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")

# torchvision's files of DenseNet still call norm1 of a layer norm.1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def load_weights(model: nn.Module, path: str | Path, *, num_classes: int | None = None) -> None:
    """Load the weights of a file into a network, in place.

    The file may be of safetensors or ``torch.save``, whatever its ending. Its state dict may be one of
    several entries, such as ``state_dict`` of a Lightning checkpoint, and its names may begin with a prefix
    such as ``module.`` or ``model.``. Weights of torchvision's auxiliary heads are ignored if the network has
    no such heads.

    Args:
        model: The network; its parameters keep their type and device.
        path: The file.
        num_classes: The network's number of classes, for messages.

    Raises:
        ValueError: If the file is missing or unreadable, its keys, shapes or types are not those of the
            network, or it holds infinite or undefined numbers.
    """
    path = Path(path)
    state = find_state_dict(read_content(path), model.state_dict(), path)
    fill(model, state, f"the weights in {path}", num_classes=num_classes)


def fill(
    model: nn.Module, state: Mapping[str, Tensor], source: str, *, num_classes: int | None = None
) -> None:
    """Load a state dict into a network like :func:`load_weights`; ``source`` names it in messages."""
    target = model.state_dict()
    given = {_OLD_DENSENET.sub(r"\1\2.", key): tensor for key, tensor in state.items()}
    heads = tuple(head for head in _AUXILIARY_HEADS if not any(key.startswith(head) for key in target))
    given = {key: tensor for key, tensor in given.items() if not key.startswith(heads)}
    if misfit := _misfit(target, given, num_classes):
        raise ValueError(f"{source} do not fit {type(model).__name__}: {misfit}")
    check_numbers(given, target, source)
    # Not load_state_dict: MNASNet's needs a version number, which safetensors files do not hold.
    with torch.no_grad():
        for key, tensor in given.items():
            target[key].copy_(tensor)


def read_content(path: Path) -> object:
    """Read a file with weights by its content, without running code from it.

    Raises:
        ValueError: If the file is missing, of another format, or damaged.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file in it that has the weights")
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    with path.open("rb") as file:
        start = file.read(24)
    if start[4:9] == bytes(4) + b"{":  # the length of the header of safetensors, and its JSON
        return read_tensors(path)[0]
    if not start.startswith((b"PK", b"\x80")):
        if path.suffix == ".safetensors":
            return read_tensors(path)[0]
        for first, what in _OTHER_FORMATS.items():
            if start.startswith(first) and (first or not start):
                raise ValueError(f"{path} cannot be read as weights: it is {what}")
    return read_pickled(path)


def _misfit(target: Mapping[str, Tensor], given: Mapping[str, Tensor], num_classes: int | None) -> str:
    """Say what does not fit and what to do: keys missing, unexpected or of another shape; "" if all fit."""
    missing = [k for k in target if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in target]
    reshaped = [k for k in target if k in given and given[k].shape != target[k].shape]
    if not missing and not unexpected and reshaped:
        shapes = [(tuple(given[k].shape), tuple(target[k].shape)) for k in reshaped]
        if sentence := _other_classes(shapes, num_classes) or _other_channels(shapes):
            return sentence
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": [
            f"{k} {tuple(given[k].shape)} instead of {tuple(target[k].shape)}" for k in reshaped
        ],
    }
    text = "; ".join(f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in kinds.items() if keys)
    if missing and len(missing) == sum(not k.endswith("num_batches_tracked") for k in target):
        text += ": it is another network"
    return text


def _other_classes(shapes: list[tuple[tuple[int, ...], tuple[int, ...]]], needed: int | None) -> str:
    """Explain weights of which only the last layer's number of outputs differs."""
    pairs = {(given[:1], target[:1]) for given, target in shapes}
    same_rest = all(given[1:] == target[1:] for given, target in shapes)
    if len(pairs) > 1 or not same_rest:
        return ""
    (given, target) = (side[0] for side in next(iter(pairs)))
    if target != needed:
        return ""
    return (
        f"they are for {counted(given, 'class', 'classes')}, the data has {target}; give weights that were "
        "trained on this data, or none"
    )


def _other_channels(shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """Explain weights of which only the first convolution's number of inputs differs."""
    (given, target), *others = shapes
    if others or len(given) != 4 or len(target) != 4 or given[:1] + given[2:] != target[:1] + target[2:]:
        return ""
    return (
        f"they are for images of {counted(given[1], 'channel')}, the data has {target[1]}; give weights that "
        "were trained on this data, or none"
    )


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(map(short, keys[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")
