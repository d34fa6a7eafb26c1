"""What a run was begun with beside its options: a resumed one has to have the same."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ...envs.tasks.fingerprint import are_same_data
from .flat_options import read_config


@dataclass(frozen=True)
class Origin:
    """What a run was begun with; "" is unknown, and is not compared.

    Args:
        dense_weights: Hash of the weights of the dense network and the teacher.
        examples: Fingerprint of the data; see :func:`~secateur.envs.tasks.fingerprint.data_fingerprint`.
        agent_weights: Hash of the weights of the agent that the run begins with.
    """

    dense_weights: str = ""
    examples: str = ""
    agent_weights: str = ""

    @property
    def known(self) -> dict[str, str]:
        """What is known, by name, for ``config.yaml``."""
        return {name: value for name, value in asdict(self).items() if value}

    def check(self, path: Path) -> None:
        """Check that the run in a folder was begun with the same.

        Raises:
            ValueError: If it was not.
        """
        before, now = read_config(path), self.known
        kept = {name: str(before.get(name, value)) for name, value in now.items()}
        other = ""
        if kept.get("dense_weights") != now.get("dense_weights"):
            other = "weights of the dense network or the teacher"
        elif kept.get("agent_weights") != now.get("agent_weights"):
            other = "weights of the agent"
        elif not are_same_data(kept.get("examples", ""), now.get("examples", "")):
            other = "data"
        if other:
            raise ValueError(f"{path} was begun with other {other}; give the same, or a new folder")


NOTHING_KNOWN = Origin()
