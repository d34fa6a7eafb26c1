"""Networks of ``torch.hub``: ``torchhub:owner/repository:entry``, or ``torchhub:./folder:entry``.

Such a repository has a ``hubconf.py`` with functions that build networks. Its code is run, so torch keeps a
list of trusted repositories; others are refused, as the name may come from somebody else's run folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..io.suggestions import unknown_name
from ..io.untrusted import first_line
from .factories import build_with
from .sources import DEFAULT, Sizes, explained, unknown_weights


@dataclass(frozen=True)
class TorchhubSource:
    """Build a network with an entry of a repository's ``hubconf.py``."""

    name: str

    def __post_init__(self) -> None:
        repository, colon, entry = self.name.rpartition(":")
        if not (colon and "/" in repository and entry):
            raise ValueError(
                f"torchhub:{self.name} is no name; give torchhub:owner/repository:entry, "
                "torchhub:owner/repository:branch:entry or torchhub:./folder:entry"
            )

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Call the entry like a user's factory."""
        with self._entry() as entry, self._explained():
            return build_with(entry, num_classes=num_classes, in_channels=in_channels, name=self._full)

    def published(self, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
        """Call the entry with ``weights``, or with ``pretrained=True`` for ``DEFAULT``."""
        with self._entry() as entry:
            parameters = inspect.signature(entry).parameters
            if "weights" in parameters:
                given: dict[str, Any] = {"weights": weights}
            elif "pretrained" in parameters and weights == DEFAULT:
                given = {"pretrained": True}
            else:
                known = [DEFAULT] if "pretrained" in parameters else []
                raise ValueError(unknown_weights(weights, self._full, known))
            with self._explained():
                return dict(entry(**given).state_dict())

    def sizes(self) -> Sizes:
        """Return usual sizes, as nothing is known."""
        return Sizes((3, 224, 224), 1000)

    @property
    def _full(self) -> str:
        return f"torchhub:{self.name}"

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(f"{self._full} cannot be built", "see the documentation of the repository")

    @contextlib.contextmanager
    def _entry(self) -> Iterator[Callable[..., Any]]:
        """Import ``hubconf.py`` with its folder on Python's path, and give the entry."""
        repository, _, entry = self.name.rpartition(":")
        folder = Path(repository) if repository.startswith((".", "/")) else _downloaded(repository)
        if not (folder / "hubconf.py").is_file():
            raise ValueError(f"there is no {folder}/hubconf.py, which {self._full} needs")
        here = str(folder.resolve())
        sys.path.insert(0, here)
        try:
            with self._explained():
                spec = importlib.util.spec_from_file_location("hubconf", folder / "hubconf.py")
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
            if entry not in known:
                raise ValueError(unknown_name(f"entry of torchhub:{repository}", entry, known))
            yield getattr(module, entry)
        finally:
            sys.path[:] = [path for path in sys.path if path is not here]


def _downloaded(repository: str) -> Path:
    """Return the folder of a trusted repository, downloaded by torch if it is not in its cache."""
    owner_and_name, _, branch = repository.partition(":")
    stdin, sys.stdin = sys.stdin, io.StringIO()  # torch asks whether it may trust a repository
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.hub.list(repository, trust_repo="check", verbose=False)
    except EOFError:
        trust = f"import torch; torch.hub.list({repository!r}, trust_repo=True)"
        raise ValueError(
            f"torchhub:{repository} would run code of github.com/{owner_and_name}, which is not trusted on "
            f"this machine yet; if you trust it, run once: python -c {shlex.quote(trust)}"
        ) from None
    except Exception as error:  # the code of the repository may raise anything
        raise ValueError(
            f"torchhub:{repository} cannot be loaded ({first_line(error)}): go online, or give "
            "torchhub:./folder:entry for a copy on this machine"
        ) from error
    finally:
        sys.stdin = stdin
    stem = owner_and_name.replace("/", "_")
    branches = [branch.replace("/", "_")] if branch else ["main", "master"]
    folders = [Path(torch.hub.get_dir()) / f"{stem}_{each}" for each in branches]
    return next((folder for folder in folders if folder.is_dir()), folders[0])
