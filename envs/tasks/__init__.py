"""Tasks: data, loss and metric."""

from .base import SplitName, Task
from .detection_metric import AveragePrecision
from .images.classification import ClassificationTask
from .images.datasets import get_task, list_datasets
from .images.segmentation import SegmentationTask
from .images.segmentation_folder import load_segmentation
from .images.splits import Split
from .measuring import Measurement, measure
from .metrics import R2, Accuracy, MacroF1, MeanIoU, Metric
from .own.loader_task import LoaderTask
from .own.tensors import TensorTask

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
