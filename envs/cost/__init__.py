"""The cost of a network and of its cuts: operations, parameters, latency."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
