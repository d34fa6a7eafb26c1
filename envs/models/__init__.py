"""Build networks by name, and load their weights."""

from .registry import get_model, is_user_defined, list_models, predicts_pixels, usual_sizes
from .weights import load_weights

__all__ = [
    "get_model",
    "is_user_defined",
    "list_models",
    "load_weights",
    "predicts_pixels",
    "usual_sizes",
]
