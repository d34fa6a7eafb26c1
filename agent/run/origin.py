"""What a run was begun with beside its options: a resumed one has to have the same."""

from dataclasses import asdict, dataclass
from pathlib import Path

from .flat_options import read_config


@dataclass(frozen=True)
class Origin:
    """Hashes of what a run was begun with; "" is unknown, and is not compared.

    Args:
        dense_weights: Of the weights of the dense network and the teacher.
        examples: Of some examples of the data.
    """

    dense_weights: str = ""
    examples: str = ""

    @property
    def known(self) -> dict[str, str]:
        """The hashes that are known, by name, for ``config.yaml``."""
        return {name: value for name, value in asdict(self).items() if value}

    def check(self, path: Path) -> None:
        """Check that the run in a folder was begun with the same.

        Raises:
            ValueError: If it was not.
        """
        before = read_config(path)
        for name, now in self.known.items():
            if before.get(name, now) != now:
                what = _NAMES[name]
                raise ValueError(f"{path} was begun with other {what}; give the same, or a new folder")


NOTHING_KNOWN = Origin()

_NAMES = {"dense_weights": "weights of the dense network or the teacher", "examples": "data"}
