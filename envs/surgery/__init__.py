"""Removing filters, and proof that what is left computes the same."""

from .cutting import cut, load_pruned, mask_, save_pruned
from .plan import Mask, PruningPlan
from .verification import InexactCutError, trace_exactly, verify_cut

__all__ = [
    "InexactCutError",
    "Mask",
    "PruningPlan",
    "cut",
    "load_pruned",
    "mask_",
    "save_pruned",
    "trace_exactly",
    "verify_cut",
]
