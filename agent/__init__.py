"""Who decides: policies, their training, and the whole job from a dense network to a pruned one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
