"""Options of a pruning run."""

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
"""MACs ratio of the pruned network if neither a target nor a drop bound is given."""


@dataclass(frozen=True)
class LatencyOptions:
    """Options of latency measurements."""

    latency_batch: int = LatencyConfig.batch
    """Batch size of latency measurements, at least 1."""
    latency_threads: int = LatencyConfig.threads
    """CPU threads in latency measurements, at least 1."""
    latency_dtype: Precision = LatencyConfig.dtype
    """Data type of weights and images in latency measurements."""
    latency_device: str | None = LatencyConfig.device
    """Device of latency measurements, cpu or cuda; by default the device of the pruning run."""

    def config(self) -> LatencyConfig:
        """Return the options as a :class:`.LatencyConfig`."""
        return LatencyConfig(
            self.latency_batch, self.latency_threads, self.latency_dtype, self.latency_device
        )


@dataclass(frozen=True)
class PruningConfig:
    """Options of a pruning run: the target, the method and the recovery.

    Raises:
        ValueError: If a number is out of its range, a method is unknown, or options exclude each other.
    """

    target_macs: float | None = None
    """Target MACs ratio, pruned / dense, in (0, 1]; 0.5 if neither another target nor a drop bound is
    given."""
    target_latency: float | None = None
    """Target latency of a forward pass, ms, > 0, estimated from a table of the layers' latencies; excludes a
    MACs target and a drop bound."""
    drop_bound: float | None = None
    """Largest accuracy drop on val before fine-tuning, percentage points, in (0, 100]; the network becomes as
    small as this allows. Excludes targets."""
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    """Settings of latency measurements."""
    method: str = PPO
    """Method that chooses the filters: ppo, or a baseline such as l2-uniform, taylor-global or
    bn-global-per-mac."""
    constraints: Constraints = field(default_factory=Constraints)
    """Protected layers, and limits on the number of filters that stay in a layer."""
    agent: str | Path | None = None
    """Initial agent of ppo: ``pretrained`` for the agent shipped with Secateur, the folder of a trained
    agent, or ``none`` for random weights; by default ``pretrained``, with layerwise ``none``."""
    procedure: Procedure = "network"
    """Pruning procedure: network prunes all layers at once; layerwise (Huang et al. 2018, arXiv 1801.07365)
    prunes and fine-tunes layer by layer from the input, with a separate agent for each."""
    layer_epochs: int = 1
    """Fine-tuning epochs after each layer's cut with layerwise, at least 0; 0 only re-estimates batch-norm
    statistics."""
    search: AgentConfig | None = None
    """Training of the ppo agent on this network; by default an agent from a folder is used frozen, and any
    other is trained with the defaults of :class:`AgentConfig`."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """Settings of the training after the cut."""
    search_images: int = 256
    """Validation images per candidate during the search, at least 1; each update takes a different subset,
    so that the agent does not overfit to one."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        self._check_target()
        if self.method not in METHODS:
            raise ValueError(unknown_name("method", self.method, METHODS))
        if self.procedure not in PROCEDURES:
            raise ValueError(unknown_name("procedure", self.procedure, PROCEDURES))
        check_whole("layer_epochs", self.layer_epochs, 0)
        check_seed(self.seed)
        if self.agent is not None and self.method != PPO:
            raise ValueError(f"the method {self.method} uses no agent; leave out --agent or --method")
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
        # The rewards check the ranges of the other targets.
        if self.drop_bound is not None:
            TryAndLearnReward(self.drop_bound)
        if self.target_macs is not None:
            TargetReward(self.target_macs)

    @property
    def choice_images(self) -> int:
        """Number of validation images for choosing among proposals.

        Candidates of ResNet-20 measured on 512 images have a rank correlation of 0.8 (Spearman) with their
        accuracies on test, on 2048 images 0.9.
        """
        return 8 * self.search_images

    @property
    def learning(self) -> AgentConfig:
        """Training of the ppo agent on this network, with defaults resolved."""
        if self.search is not None:
            return self.search
        is_folder = self.agent_source not in (PRETRAINED, RANDOM_WEIGHTS)
        return AgentConfig(evaluations=0) if is_folder else AgentConfig()

    @property
    def agent_source(self) -> str | Path:
        """Initial agent of ppo: a folder, :data:`.PRETRAINED` or :data:`.RANDOM_WEIGHTS`."""
        if self.agent is not None:
            return self.agent
        return PRETRAINED if self.procedure == "network" else RANDOM_WEIGHTS
