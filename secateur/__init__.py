"""Prune the filters of a trained CNN with a reinforcement-learning agent."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file():
    # In a checkout the folders of the other packages lie beside this one, not inside it.
    __path__.append(str(_CHECKOUT))

try:
    __version__ = version("secateur")
except PackageNotFoundError:  # a checkout that nobody installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
