"""Options of the training of agents."""

from dataclasses import dataclass

from ...envs.io.ranges import check_real, check_whole


@dataclass(frozen=True)
class AgentConfig:
    """Options of the training of an agent with PPO.

    Raises:
        ValueError: If a number is out of its range.
    """

    evaluations: int = 2000
    """Candidates to measure in training, at least 0, rounded up to whole updates; 0 uses the initial agent
    frozen."""
    episodes_per_update: int = 16
    """Episodes (candidates) per update of the policy, at least 2."""
    epochs_per_update: int = 12
    """Passes over the episodes of an update, at least 1; 4 change the policy very little."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam, > 0; it falls linearly to a tenth."""
    clip_range: float = 0.2
    """Clip range of PPO's probability ratio, > 0; log-probabilities are divided by the square root of the
    layer's number of filters."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus in PPO's loss, >= 0."""
    hidden_features: float = 0.0
    """Probability, in [0, 1], that an episode hides each static layer feature. Above 0 an agent learns not to
    rely on single features, for networks unlike those in training."""

    group: int = 1
    """Episodes of an update with the same network and target, at least 1, a divisor of the episodes per
    update. With more than one, rewards count relative to the group's, which makes networks and targets
    comparable."""
    patience: int | None = None
    """Updates without a better candidate after which the training ends, at least 1; None never ends it
    early."""

    def __post_init__(self) -> None:
        check_whole("evaluations", self.evaluations, 0)
        if self.patience is not None:
            check_whole("patience", self.patience, 1)
        check_whole("episodes_per_update", self.episodes_per_update, 2)
        check_whole("epochs_per_update", self.epochs_per_update, 1)
        check_whole("group", self.group, 1)
        if self.episodes_per_update % self.group:
            raise ValueError(
                f"group is {self.group}; allowed are divisors of the {self.episodes_per_update} episodes per "
                "update, so that each group is whole"
            )
        check_real("learning_rate", self.learning_rate, 0, ends=False)
        check_real("clip_range", self.clip_range, 0, ends=False)
        check_real("entropy_weight", self.entropy_weight, 0)
        check_real("hidden_features", self.hidden_features, 0, 1)

    @property
    def updates(self) -> int:
        """Updates of the policy, at most."""
        return -(-self.evaluations // self.episodes_per_update)

    @property
    def candidates(self) -> int:
        """Candidates that these updates measure."""
        return self.updates * self.episodes_per_update


NORMAL = {"evaluations": 320, "episodes_per_update": 8, "patience": 24}
"""Options of a search with normal effort. Each update measures on other images, so rewards of updates differ
by chance: with a patience of 15, searches of ResNet-20 ended after 20 updates, two points too early."""

RANDOM_WEIGHTS = "none"
"""Name of an initial agent with random weights."""

PRETRAINED = "pretrained"
"""Name of the agent shipped with the package."""
