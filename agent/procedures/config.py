"""Configuration of pruning: one frozen dataclass per concern."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ...envs.cost.config import LatencyConfig, Precision
from ...envs.io.suggestions import unknown_name
from ...envs.recovery.config import RecoveryConfig
from ...envs.surgery.constraints import Constraints
from ...rewards import TargetReward, TryAndLearnReward
from ..deciders.names import METHODS, PPO
from ..learning.config import PRETRAINED, RANDOM_WEIGHTS, AgentConfig

Procedure = Literal["network", "layerwise"]
PROCEDURES: tuple[Procedure, ...] = get_args(Procedure)


DEFAULT_TARGET = 0.5
"""Target share of the MACs if neither a target nor a drop bound is given."""


@dataclass(frozen=True)
class LatencyOptions:
    """Set how latencies are measured."""

    latency_batch: int = 1
    """Images in one pass."""
    latency_threads: int = 1
    """CPU threads."""
    latency_dtype: Precision = "float32"
    """Data type of weights and images."""
    latency_device: str | None = None
    """cpu or cuda; by default the device that prunes."""

    def config(self) -> LatencyConfig:
        """Convert to the settings of the measurement."""
        return LatencyConfig(
            self.latency_batch, self.latency_threads, self.latency_dtype, self.latency_device
        )


@dataclass(frozen=True)
class PruningConfig:
    """Set the goal of pruning, the decider, and the recovery.

    Raises:
        ValueError: If a number is out of its range, a method is unknown, or options exclude each other.
    """

    target_macs: float | None = None
    """Target size: share of the MACs that may stay, in (0, 1]; 0.5 if no goal is given."""
    target_latency: float | None = None
    """Alternative goal: latency of one pass, milliseconds, predicted by a table of the layers' latencies."""
    drop_bound: float | None = None
    """Alternative goal: smallest network with at most this accuracy drop on val before fine-tuning,
    percentage points."""
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    """How latencies are measured."""
    method: str = PPO
    """Decider: ppo, or a baseline such as l2-uniform, taylor-global, bn-global-per-mac."""
    constraints: Constraints = field(default_factory=Constraints)
    """Protected layers, largest sparsities, and rounding of widths."""
    agent: str | Path | None = None
    """Initial agent of ppo: ``pretrained``, the agent that comes with Secateur; the folder of a trained
    agent; or ``none``, random weights. The default is ``pretrained``, for layerwise ``none``."""
    procedure: Procedure = "network"
    """network searches for all layers together; layerwise (Huang et al. 2018) prunes layer after layer from
    the input, each with its own agent, cut and fine-tuned before the next."""
    layer_epochs: int = 1
    """For layerwise: passes over the training images after each cut; 0 re-estimates batch-norm only."""
    search: AgentConfig | None = None
    """Training of ppo on this network. By default the agent of a folder stays frozen, and others use the
    defaults of :class:`AgentConfig`."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """Training of the weights after the cut."""
    search_images: int = 256
    """Validation images for measuring a candidate during the search. Each update uses others, to avoid
    overfitting to them."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        self._check_target()
        if self.method not in METHODS:
            raise ValueError(unknown_name("method", self.method, METHODS))
        if self.procedure not in PROCEDURES:
            raise ValueError(unknown_name("procedure", self.procedure, PROCEDURES))
        if self.layer_epochs < 0:
            raise ValueError(f"layer_epochs is {self.layer_epochs}; allowed is at least 0")
        if self.agent is not None and self.method != PPO:
            raise ValueError(f"an agent decides by ppo, not by {self.method}; leave out --agent or --method")
        if self.method == PPO and self.agent_source == RANDOM_WEIGHTS and not self.learning.evaluations:
            raise ValueError("an agent with random weights has to learn; give --evaluations above 0")
        if self.search_images < 1:
            raise ValueError(f"search_images is {self.search_images}; allowed is at least 1")

    def _check_target(self) -> None:
        targets = ("target_macs", "target_latency", "drop_bound")
        given = [f"--{name.replace('_', '-')}" for name in targets if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.target_latency is not None and not self.target_latency > 0:
            raise ValueError(f"the target is {self.target_latency:g} ms; it has to be above 0")
        # The rewards check the ranges.
        if self.drop_bound is not None:
            TryAndLearnReward(self.drop_bound)
        if self.target_macs is not None:
            TargetReward(self.target_macs)

    @property
    def choice_images(self) -> int:
        """Number of validation images for the final choice.

        The rank correlation (Spearman) of ResNet-20's candidates with test is 0.8 on 512 images, 0.9 on 2048.
        """
        return 8 * self.search_images

    @property
    def learning(self) -> AgentConfig:
        """Settings of ppo's training on this network."""
        if self.search is not None:
            return self.search
        is_folder = self.agent_source not in (PRETRAINED, RANDOM_WEIGHTS)
        return AgentConfig(evaluations=0) if is_folder else AgentConfig()

    @property
    def agent_source(self) -> str | Path:
        """Source of ppo's initial agent: a folder, :data:`.PRETRAINED` or :data:`.RANDOM_WEIGHTS`."""
        if self.agent is not None:
            return self.agent
        return PRETRAINED if self.procedure == "network" else RANDOM_WEIGHTS
