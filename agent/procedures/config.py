"""What can be asked for: one frozen dataclass per concern."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ...envs.cost.latency_table import LatencyConfig, Precision
from ...envs.io.suggestions import unknown_name
from ...envs.recovery.config import RecoveryConfig
from ...envs.surgery.constraints import Constraints
from ...envs.tracing import TracedNetwork
from ...rewards import Reward, TargetReward, TryAndLearnReward
from ..deciders.base import Budget, Decider
from ..deciders.baselines import BASELINES, Baseline
from ..learning.frozen_agent import PRETRAINED, FrozenAgent
from ..learning.training import AgentConfig

METHODS = ("ppo", *BASELINES)

Procedure = Literal["network", "layerwise"]
PROCEDURES: tuple[Procedure, ...] = get_args(Procedure)


RANDOM_WEIGHTS = "none"
"""What stands for an agent that has learned nothing."""

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
    method: str = "ppo"
    """Who decides: ppo, or a baseline such as l2-uniform, taylor-global, bn-global-per-mac."""
    limits: Constraints = field(default_factory=Constraints)
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
        wishes = ("target_macs", "target_latency", "drop_bound")
        given = [f"--{name.replace('_', '-')}" for name in wishes if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.target_latency is not None and not self.target_latency > 0:
            raise ValueError(f"the target is {self.target_latency:g} ms; it has to be above 0")
        if self.method not in METHODS:
            raise ValueError(unknown_name("method", self.method, METHODS))
        if self.procedure not in PROCEDURES:
            raise ValueError(unknown_name("procedure", self.procedure, PROCEDURES))
        if self.layer_epochs < 0:
            raise ValueError(f"layer_epochs is {self.layer_epochs}; allowed is at least 0")
        if self.agent is not None and self.method != "ppo":
            raise ValueError(f"an agent decides by ppo, not by {self.method}; leave out --agent or --method")
        if self.method == "ppo" and self._agent == RANDOM_WEIGHTS and not self.learning.evaluations:
            raise ValueError("an agent with random weights has to learn; give --evaluations above 0")
        if self.search_images < 1:
            raise ValueError(f"search_images is {self.search_images}; allowed is at least 1")
        if self.target_latency is None:
            self.reward()  # raises where the target or the bound is out of range

    def reward(self, network: TracedNetwork | None = None) -> Reward:
        """Make the reward that says what is wanted.

        Args:
            network: A trace; a target in milliseconds needs one with a latency.

        Raises:
            ValueError: If the network cannot be as fast as is wanted, or is so already.
        """
        if self.drop_bound is not None:
            return TryAndLearnReward(self.drop_bound)
        if self.target_latency is not None:
            assert network is not None
            return TargetReward(_share_of_latency(network, self.target_latency), "latency")
        return TargetReward(DEFAULT_TARGET if self.target_macs is None else self.target_macs)

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
        is_folder = self._agent not in (PRETRAINED, RANDOM_WEIGHTS)
        return AgentConfig(evaluations=0) if is_folder else AgentConfig()

    def beginning(self) -> FrozenAgent | None:
        """Load what ppo begins with; None begins with random weights.

        Raises:
            ValueError: If the agent cannot be loaded.
        """
        agent = self._agent
        return None if agent == RANDOM_WEIGHTS else FrozenAgent.load(agent, seed=self.seed)

    def decider(self) -> Decider | None:
        """Make who decides, or None where ppo learns first.

        Raises:
            ValueError: If the agent cannot be loaded.
        """
        if self.method != "ppo":
            return Baseline.from_name(self.method, self.seed)
        return None if self.learning.evaluations else self.beginning()

    @property
    def _agent(self) -> str | Path:
        if self.agent is not None:
            return self.agent
        return PRETRAINED if self.procedure == "network" else RANDOM_WEIGHTS


def _share_of_latency(network: TracedNetwork, target: float) -> float:
    """Turn milliseconds into a share of the dense network's.

    Raises:
        ValueError: If the network has no latency, or the target is not between its smallest and the dense.
    """
    smallest = Budget(network, 1.0, "latency").smallest
    assert network.latency is not None
    dense = float(network.latency(network.widths))
    if not smallest * dense <= target <= dense:
        raise ValueError(
            f"the target of {target:g} ms cannot be set: the dense network takes {dense:.4g} ms a batch, "
            f"with as few filters as possible {smallest * dense:.4g} ms; ask for something between"
        )
    return target / dense
