"""Recovery: everything that changes weights after the cut, and the state of a training run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
