"""How an agent learns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AgentConfig:
    """How the agent learns.

    Raises:
        ValueError: If a number is out of its range.
    """

    evaluations: int = 2000
    """Candidates to try and learn from; 0 is for an agent that has learned already, and decides frozen."""
    episodes_per_update: int = 16
    """Candidates between two updates of the policy."""
    epochs_per_update: int = 12
    """Passes over the candidates of an update; with 4 the policy hardly moves."""
    learning_rate: float = 3e-3
    """Adam's at the beginning; it falls to a tenth."""
    clip_range: float = 0.2
    """Of PPO, on log-probabilities of a layer divided by sqrt(filters)."""
    entropy_weight: float = 0.0
    """Reward for keeping decisions open."""
    hidden_features: float = 0.0
    """Probability that an episode does not show one of the static layer features, in [0, 1]. Where networks
    that were never seen are to be pruned, an agent must not rely on any of them."""

    def __post_init__(self) -> None:
        if self.evaluations < 0:
            raise ValueError(f"evaluations is {self.evaluations}; allowed is at least 0")
        if self.episodes_per_update < 2:
            raise ValueError(f"episodes_per_update is {self.episodes_per_update}; allowed is at least 2")
        if not 0 <= self.hidden_features <= 1:
            raise ValueError(f"hidden_features is {self.hidden_features}; allowed is 0 to 1")


RANDOM_WEIGHTS = "none"
"""Stands for an agent that has learned nothing."""

PRETRAINED = "pretrained"
"""Name of the agent that comes with the package."""
