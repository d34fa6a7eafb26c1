"""The world: a CNN, its data, and what happens when filters go.

Importing this package registers ``secateur/FilterPruning-v0`` with Gymnasium. Names are imported when they
are used, as torch takes seconds.
"""

import gymnasium
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

gymnasium.register(
    "secateur/FilterPruning-v0", entry_point="secateur.envs.environment.single:FilterPruningEnv"
)
