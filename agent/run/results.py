"""Intermediate results of a run, which a resumed one does not compute again."""

from collections.abc import Callable
from typing import Any

from ...envs.recovery.checkpoint import Checkpoint


class Results:
    """Keep results by name, across the processes of a run.

    Args:
        checkpoint: The file that holds them; None keeps them in this process only.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._known: dict[str, Any] = (checkpoint.load() if checkpoint is not None else None) or {}

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result; compute it if neither this process nor an earlier one has.

        Args:
            name: Its name.
            compute: Returns numbers, strings, tensors, or lists or dictionaries of them.

        Raises:
            OSError: If the file cannot be written.
        """
        if name not in self._known:
            self._known[name] = compute()
            if self._checkpoint is not None:
                self._checkpoint.save(self._known)
        return self._known[name]
