"""Gymnasium's and Stable-Baselines3's side of the world."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
