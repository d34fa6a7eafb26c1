"""What can be asked for: one frozen dataclass per concern."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ...envs.cost.config import LatencyConfig, Precision
from ...envs.io.ranges import check_seed, check_whole
from ...envs.io.suggestions import unknown_name
from ...envs.recovery.config import RecoveryConfig
from ...envs.surgery.constraints import Constraints
from ...rewards import TargetReward, TryAndLearnReward
from ..deciders.names import METHODS, PPO
from ..learning.config import PRETRAINED, RANDOM_WEIGHTS, AgentConfig

Procedure = Literal["network", "layerwise"]
PROCEDURES: tuple[Procedure, ...] = get_args(Procedure)


DEFAULT_TARGET = 0.5
"""Share of the MACs that stays where neither a target nor a drop bound is given."""


@dataclass(frozen=True)
class LatencyOptions:
    """How latencies are measured."""

    latency_batch: int = 1
    """Images in one pass."""
    latency_threads: int = 1
    """Of the processor."""
    latency_dtype: Precision = "float32"
    """Data type of weights and images."""
    latency_device: str | None = None
    """cpu or cuda; by default the device that prunes."""

    def config(self) -> LatencyConfig:
        """Put them as the measurement takes them."""
        return LatencyConfig(
            self.latency_batch, self.latency_threads, self.latency_dtype, self.latency_device
        )


@dataclass(frozen=True)
class PruningConfig:
    """What a pruned network has to meet, who decides, and how it recovers.

    Raises:
        ValueError: If a number is out of its range, a method is unknown, or options exclude each other.
    """

    target_macs: float | None = None
    """Share of the MACs that may stay, in (0, 1]; 0.5 if neither this nor a drop bound is given."""
    target_latency: float | None = None
    """Instead of a share of the MACs: milliseconds that one pass may take, by a table of the layers'
    latencies."""
    drop_bound: float | None = None
    """Instead of a target: as small as the accuracy on val before fine-tuning allows, in percentage
    points."""
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    """How latencies are measured."""
    method: str = PPO
    """Who decides: ppo, or a baseline such as l2-uniform, taylor-global, bn-global-per-mac."""
    constraints: Constraints = field(default_factory=Constraints)
    """What is protected, and how many filters of a layer may stay."""
    agent: str | Path | None = None
    """What ppo begins with: ``pretrained``, the agent that comes with Secateur; the folder of a trained one;
    or ``none``, random weights. By default the first, for layerwise the last."""
    procedure: Procedure = "network"
    """network searches for all layers together; layerwise is Huang et al.'s: layer after layer from the
    input, each with an agent of its own, cut and fine-tuned before the next."""
    layer_epochs: int = 1
    """Of layerwise: passes over the training images after each cut; 0 re-estimates batch-norm only."""
    search: AgentConfig | None = None
    """How ppo learns on this network; by default not at all with the agent of a folder, which decides frozen,
    else as :class:`AgentConfig` says."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """What happens to the weights after the cut."""
    search_images: int = 256
    """Validation images that a candidate is measured on while searching, others in each update, as the same
    ones would be learned by heart."""
    seed: int = 0
    """For everything that is drawn."""

    def __post_init__(self) -> None:
        self._check_target()
        if self.method not in METHODS:
            raise ValueError(unknown_name("method", self.method, METHODS))
        if self.procedure not in PROCEDURES:
            raise ValueError(unknown_name("procedure", self.procedure, PROCEDURES))
        check_whole("layer_epochs", self.layer_epochs, 0)
        check_seed(self.seed)
        if self.agent is not None and self.method != PPO:
            raise ValueError(f"an agent decides by ppo, not by {self.method}; leave out --agent or --method")
        if self.method == PPO and self.agent_source == RANDOM_WEIGHTS and not self.learning.evaluations:
            raise ValueError("an agent with random weights has to learn; give --evaluations above 0")
        check_whole("search_images", self.search_images, 1)

    def _check_target(self) -> None:
        targets = ("target_macs", "target_latency", "drop_bound")
        given = [f"--{name.replace('_', '-')}" for name in targets if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.target_latency is not None and not self.target_latency > 0:
            raise ValueError(f"the target is {self.target_latency:g} ms; it has to be above 0")
        # Rewards refuse what is out of their range.
        if self.drop_bound is not None:
            TryAndLearnReward(self.drop_bound)
        if self.target_macs is not None:
            TargetReward(self.target_macs)

    @property
    def choice_images(self) -> int:
        """Validation images that the choice is made on.

        Candidates of ResNet-20 are ordered as on test by 0.8 (Spearman) on 512, and by 0.9 on 2048.
        """
        return 8 * self.search_images

    @property
    def learning(self) -> AgentConfig:
        """How ppo learns on this network."""
        if self.search is not None:
            return self.search
        is_folder = self.agent_source not in (PRETRAINED, RANDOM_WEIGHTS)
        return AgentConfig(evaluations=0) if is_folder else AgentConfig()

    @property
    def agent_source(self) -> str | Path:
        """What ppo begins with: a folder, :data:`.PRETRAINED` or :data:`.RANDOM_WEIGHTS`."""
        if self.agent is not None:
            return self.agent
        return PRETRAINED if self.procedure == "network" else RANDOM_WEIGHTS
