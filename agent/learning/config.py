"""How an agent learns."""

from dataclasses import dataclass

from ...envs.io.ranges import check_real, check_whole


@dataclass(frozen=True)
class AgentConfig:
    """How the agent learns.

    Raises:
        ValueError: If a number is out of its range.
    """

    evaluations: int = 2000
    """Candidates to try and learn from; 0 is for an agent that has learned already, and decides frozen."""
    episodes_per_update: int = 16
    """Candidates between two updates of the policy, at least 2."""
    epochs_per_update: int = 12
    """Passes over the candidates of an update, at least 1; with 4 the policy hardly moves."""
    learning_rate: float = 3e-3
    """Adam's at the beginning, > 0; it falls to a tenth."""
    clip_range: float = 0.2
    """Of PPO, on log-probabilities of a layer divided by sqrt(filters), > 0."""
    entropy_weight: float = 0.0
    """Reward for keeping decisions open, >= 0."""
    hidden_features: float = 0.0
    """Probability that an episode does not show one of the static layer features, in [0, 1]. Where networks
    that were never seen are to be pruned, an agent must not rely on any of them."""

    def __post_init__(self) -> None:
        check_whole("evaluations", self.evaluations, 0)
        check_whole("episodes_per_update", self.episodes_per_update, 2)
        check_whole("epochs_per_update", self.epochs_per_update, 1)
        check_real("learning_rate", self.learning_rate, 0, ends=False)
        check_real("clip_range", self.clip_range, 0, ends=False)
        check_real("entropy_weight", self.entropy_weight, 0)
        check_real("hidden_features", self.hidden_features, 0, 1)


RANDOM_WEIGHTS = "none"
"""Stands for an agent that has learned nothing."""

PRETRAINED = "pretrained"
"""Name of the agent that comes with the package."""
