"""Pruning problems: a network, its data, and the features that an agent observes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
