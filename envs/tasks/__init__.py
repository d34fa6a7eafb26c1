"""What is pruned on what: data, loss and metric."""

from .base import Measurement, SplitName, Task, measure
from .classification import ClassificationTask
from .datasets import get_task, list_datasets
from .splits import Split

__all__ = [
    "ClassificationTask",
    "Measurement",
    "Split",
    "SplitName",
    "Task",
    "get_task",
    "list_datasets",
    "measure",
]
