"""Read files of ``torch.save`` without running code from them, and without exhausting memory.

torch runs no code from such a file (``weights_only=True``), but it decompresses its content and creates every
object that the file names, whatever memory that takes. And it refuses files that name classes that it does
not know, though training scripts save options and metrics beside the weights. Here these become objects that
hold nothing and do nothing: the classes and functions that a file names are neither imported nor called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ..io.untrusted import first_line, short

_ZIP = b"PK\x03\x04"

_OLD_PICKLES = 5
"""Pickles in a file before torch 1.6: a magic number, a version, the system, the tensors, their storages."""

_MOST_INSTRUCTIONS = 1_000_000
"""Instructions allowed in one pickle. A tensor takes about forty; each creates about ten bytes at most."""

_MOST_NAMES = 1000
"""Classes and functions that a file may name. Lightning's checkpoints name about ten."""


_Known = Callable[..., Any] | tuple[Callable[..., Any], str]
"""What torch may take for a name in a file."""


class Unknown(list[Any]):
    """Stand for an object of an unknown class. A list, as torch appends to the entries of lists only."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, _: object) -> None:
        pass


class _UnknownDict:
    """Make a plain dict in place of one of an unknown class, as torch sets entries of known dicts only."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


def read_pickled(path: Path) -> object:
    """Read the content of a file of ``torch.save``.

    Returns:
        Its content: tensors, plain Python objects, and :class:`Unknown` for all others.

    Raises:
        ValueError: If the file is damaged, torch did not write it, or it would take far more memory than it
            has bytes.
    """
    try:
        unknown: list[_Known] = [(_stand_in(name), name) for name in _names(path)]
        # A file, as torch takes a path for the format of its ending. What torch knows, it does not replace.
        with path.open("rb") as file, torch.serialization.safe_globals(unknown):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds Python objects beside tensors, which are not loaded for safety: "
            "save model.state_dict() instead of the model"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} cannot be read as weights: {first_line(error)}") from error


def _stand_in(name: str) -> Callable[..., Any]:
    """Make a class that stands for an unknown one, such as ``argparse.Namespace``."""
    if "dict" in name.lower():
        return _UnknownDict
    return type(short(name), (Unknown,), {})


def _names(path: Path) -> set[str]:
    """Check a file, and return the names of the classes and functions that it refers to.

    Raises:
        ValueError: If its loading would take far more memory than the file has bytes, or ``torch.save`` did
            not write it.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            pickles = _pickles_of_archive(path)
        else:
            file.seek(0)
            pickles = (file for _ in range(_OLD_PICKLES))
        names: set[str] = set()
        for part in pickles:
            names |= _names_in(part)
    if len(names) > _MOST_NAMES:
        raise ValueError(f"it names {len(names):,} classes and functions, allowed are {_MOST_NAMES:,}")
    return names


def _pickles_of_archive(path: Path) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if any("/code/" in name for name in names):
                raise ValueError("it is a TorchScript program; save model.state_dict() instead")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed, which torch.save never does")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise ValueError("its entries claim more bytes than the file has")
            for name in names:
                if name.endswith(".pkl"):
                    yield io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is not a complete archive ({error})") from error


def _names_in(file: IO[bytes]) -> set[str]:
    names = set()
    for count, (operation, argument, _) in enumerate(_operations(file)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f"it takes more than {_MOST_INSTRUCTIONS:,} instructions to read")
        if operation.name == "GLOBAL":
            names.add(".".join(_python3_name(*str(argument).split(" ", 1))))
    return names


def _operations(file: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """Yield the instructions of a pickle.

    Raises:
        ValueError: If it is none, such as a text.
    """
    try:
        yield from pickletools.genops(file)
    except Exception as error:  # a damaged file may raise anything
        raise ValueError("it is damaged, or none; give a file of safetensors, or of torch.save") from error


def _python3_name(module: str, name: str) -> tuple[str, str]:
    """Translate a name of Python 2, which torch.save writes for builtins."""
    return NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
