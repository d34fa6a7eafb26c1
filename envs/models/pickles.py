"""Check a file of ``torch.save`` before torch loads it.

torch runs no code from such a file (``weights_only=True``), but it decompresses its content and creates every
object that the file names, whatever memory that takes.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

_ZIP = b"PK\x03\x04"

_OLD_PICKLES = 5
"""Pickles in a file before torch 1.6: a magic number, a version, the system, the tensors, their storages."""

_MOST_INSTRUCTIONS = 1_000_000
"""Instructions allowed in one pickle. A tensor takes about forty; each creates about ten bytes at most."""


def check_pickle(path: Path) -> None:
    """Refuse a file whose loading would take far more memory than the file has bytes.

    Raises:
        ValueError: If that is so, or if ``torch.save`` did not write the file.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            _check_archive(path)
            return
        file.seek(0)
        for _ in range(_OLD_PICKLES):
            _check_instructions(file)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed, which torch.save never does")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise ValueError("its entries claim more bytes than the file has")
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    _check_instructions(io.BytesIO(archive.read(entry)))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is not a complete archive ({error})") from error


def _check_instructions(file: IO[bytes]) -> None:
    for count, _ in enumerate(pickletools.genops(file)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f"it takes more than {_MOST_INSTRUCTIONS:,} instructions to read")
