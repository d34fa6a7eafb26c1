"""Look at a file of ``torch.save`` before torch does.

torch runs nothing that such a file says (``weights_only=True``), but it unpacks what is compressed, and makes
every object that is asked for.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

_ZIP = b"PK\x03\x04"

_OLD_PICKLES = 5
"""Of the format before torch 1.6: a magic number, a version, the system, the tensors, their storages."""

_MOST_INSTRUCTIONS = 1_000_000
"""Of one pickle; a tensor takes forty of them, and each makes at most some ten bytes."""


def check_pickle(path: Path) -> None:
    """Refuse a file that would take far more memory than it has bytes.

    Raises:
        ValueError: If it would, or is no file of ``torch.save``.
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
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise ValueError("it is compressed, which torch.save never does")
            if sum(part.file_size for part in parts) > path.stat().st_size:
                raise ValueError("its parts claim to be larger than the whole")
            for part in parts:
                if part.filename.endswith(".pkl"):
                    _check_instructions(io.BytesIO(archive.read(part)))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no whole archive ({error})") from error


def _check_instructions(file: IO[bytes]) -> None:
    for count, _ in enumerate(pickletools.genops(file)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f"it takes more than {_MOST_INSTRUCTIONS:,} instructions to read")
