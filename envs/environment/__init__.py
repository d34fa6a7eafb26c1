"""The environments for Gymnasium and Stable-Baselines3."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
