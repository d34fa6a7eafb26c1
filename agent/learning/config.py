"""Settings of the agent's training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AgentConfig:
    """Set how the agent learns.

    Raises:
        ValueError: If a number is out of its range.
    """

    evaluations: int = 2000
    """Candidates to measure and learn from; 0 uses a trained agent without further training."""
    episodes_per_update: int = 16
    """Candidates per update of the policy, at least 2."""
    epochs_per_update: int = 12
    """Passes over the candidates of an update; with 4 the policy hardly moves."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam; it falls linearly to a tenth."""
    clip_range: float = 0.2
    """Clip range of PPO, for log-probabilities of a layer divided by sqrt(filters)."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus of PPO."""
    hidden_features: float = 0.0
    """Probability that an episode hides a static layer feature, in [0, 1]. Training for unseen networks hides
    features, so that the agent does not rely on any single one."""

    def __post_init__(self) -> None:
        if self.evaluations < 0:
            raise ValueError(f"evaluations is {self.evaluations}; allowed is at least 0")
        if self.episodes_per_update < 2:
            raise ValueError(f"episodes_per_update is {self.episodes_per_update}; allowed is at least 2")
        if not 0 <= self.hidden_features <= 1:
            raise ValueError(f"hidden_features is {self.hidden_features}; allowed is 0 to 1")


RANDOM_WEIGHTS = "none"
"""Name of an untrained agent."""

PRETRAINED = "pretrained"
"""Name of the agent that is part of the package."""
