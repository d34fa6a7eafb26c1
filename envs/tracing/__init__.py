"""Tracing: which channels of a network have to be removed together, exact per channel.

A trace takes one real forward pass per mode, evaluation and training.
"""

from .labels import Cause
from .network import Layer, Slice, TracedNetwork
from .pinned import PinnedLayer
from .propagation import Pin
from .trace import trace

__all__ = ["Cause", "Layer", "Pin", "PinnedLayer", "Slice", "TracedNetwork", "trace"]
