"""Build networks by name, and load their weights."""

from .registry import get_model, list_models, predicts_pixels
from .weights import load_weights

__all__ = ["get_model", "list_models", "load_weights", "predicts_pixels"]
