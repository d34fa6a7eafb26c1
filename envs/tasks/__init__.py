"""Tasks: data, loss and metric."""

from .base import SplitName, Task
from .classification import ClassificationTask
from .datasets import get_task, list_datasets
from .detection_metric import AveragePrecision
from .loader_task import LoaderTask
from .measuring import Measurement, measure
from .metrics import R2, Accuracy, MacroF1, MeanIoU, Metric
from .segmentation import SegmentationTask
from .segmentation_folder import load_segmentation
from .splits import Split
from .tensors import TensorTask

__all__ = [
    "R2",
    "Accuracy",
    "AveragePrecision",
    "ClassificationTask",
    "LoaderTask",
    "MacroF1",
    "MeanIoU",
    "Measurement",
    "Metric",
    "SegmentationTask",
    "Split",
    "SplitName",
    "Task",
    "TensorTask",
    "get_task",
    "list_datasets",
    "load_segmentation",
    "measure",
]
