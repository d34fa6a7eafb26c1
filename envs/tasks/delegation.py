"""A task that is another task but for some members."""

from typing import Any

from .base import Task


class DelegatingTask:
    """Pass all members on to a task that a subclass does not define.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        """Return the task's attribute."""
        if name.startswith("__") or name == "_task":  # of copies and pickles, before there is a task
            raise AttributeError(name)
        return getattr(self._task, name)
