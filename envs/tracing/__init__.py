"""Which channels of a network live and die together: exact, per channel, from one real forward a mode."""

from .labels import Cause
from .network import Layer, PinnedLayer, Products, Size, Slice, TracedNetwork
from .propagation import Pin
from .trace import trace

__all__ = ["Cause", "Layer", "Pin", "PinnedLayer", "Products", "Size", "Slice", "TracedNetwork", "trace"]
