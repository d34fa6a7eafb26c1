"""Options of a pruning run by concern. :class:`.PruningConfig` inherits them, so its keywords are flat."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import tyro

from ...envs.cost.config import LatencyConfig, Precision
from ...envs.evaluation.engine_names import ENGINES, LOCAL
from ...envs.io.ranges import check_real, check_seed, check_whole
from ...envs.io.suggestions import unknown_name
from ...envs.io.untrusted import short
from ...envs.surgery.constraints import Constraints
from ...rewards import TargetReward, TryAndLearnReward
from ..deciders.names import METHODS, PPO
from ..run.flat_options import convert_option
from .shares import Percentage, Share, parse_share

T = TypeVar("T", int, float)

Effort = Literal["quick", "normal", "thorough"]
Procedure = Literal["network", "layerwise"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
PROCEDURES: tuple[Procedure, ...] = get_args(Procedure)

DEFAULT_TARGET = 0.5
"""MACs ratio of the pruned network if neither a target nor a drop bound is given."""

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
"""An option with one value that may be given several times; it does not consume the arguments after it."""


@dataclass(frozen=True)
class TargetOptions:
    """Size of the pruned network.

    Raises:
        ValueError: If a number is out of its range, or options exclude each other.
    """

    target_macs: Share | None = None
    """Target MACs ratio, pruned / dense, in (0, 1]; 0.5 if neither another target nor a drop bound is
    given."""
    target_latency: float | None = None
    """Target latency of a pass, ms, > 0, from a table of the layers' latencies; excludes other targets and a
    drop bound."""
    drop_bound: Percentage | None = None
    """Largest accuracy drop after fine-tuning (before it with layerwise), percentage points, in (0, 100]; the
    network is as small as it allows. Excludes targets."""

    def __post_init__(self) -> None:
        targets = {"target_macs": Share, "target_latency": float, "drop_bound": Percentage}
        given = [name for name in targets if getattr(self, name) is not None]
        for name in given:  # Python code may give "50%"
            object.__setattr__(self, name, convert_option(name, targets[name], getattr(self, name)))
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.target_latency is not None and not self.target_latency > 0:
            raise ValueError(f"the target is {self.target_latency:g} ms; it has to be above 0")
        # The rewards check the ranges of the other targets.
        if self.drop_bound is not None:
            TryAndLearnReward(self.drop_bound)
        if self.target_macs is not None:
            TargetReward(self.target_macs)


@dataclass(frozen=True)
class SearchOptions:
    """Choice of the filters.

    Raises:
        ValueError: If a number is out of its range, or a name is unknown.
    """

    effort: Effort = "normal"
    """Effort: quick compares the frozen agent with the heuristics; normal also searches until candidates no
    longer improve; thorough measures 2000 and fine-tunes longer."""
    minutes: float | None = None
    """Time limit of the run, minutes, > 0; the search takes what the choice and the fine-tuning leave."""
    method: str = PPO
    """Method that chooses the filters: ppo, or a baseline such as l2-uniform; baselines are
    random|l1|l2|bn|fpgm|taylor, followed by -uniform, -global or -global-per-mac."""
    agent: str | None = None
    """Initial agent of ppo: pretrained, none, or a folder; pretrained is the agent shipped with Secateur,
    none has random weights, the folder is that of a trained agent; by default pretrained, with layerwise
    none."""
    evaluations: int | None = None
    """Candidates to measure in the search, at least 0; given instead of an effort, and rounded up to whole
    updates. 0 uses the initial agent frozen, which is the default for an agent from a folder. With layerwise
    the layers share them equally."""
    search_images: int = 256
    """Images of val per candidate; in the search, at least 1. Each update takes a different subset if val
    has enough, so that the agent does not overfit to one. Proposals are looked at on twice as many."""
    procedure: Procedure = "network"
    """Pruning procedure; network prunes all layers at once, layerwise (Huang et al. 2018, arXiv 1801.07365)
    prunes and fine-tunes layer by layer from the input, with a separate agent for each."""
    layer_epochs: int = 1
    """Epochs after each layer's cut; with layerwise, at least 0. With 0 statistics alone change."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        if self.agent is not None:
            object.__setattr__(self, "agent", str(self.agent))  # Python code may give a path
        for name, allowed in (("effort", EFFORTS), ("method", METHODS), ("procedure", PROCEDURES)):
            if (given := getattr(self, name)) not in allowed:
                others = (
                    "; other systems of pruning are run by `secateur compare`" if name == "method" else ""
                )
                raise ValueError(unknown_name(name, given, allowed) + others)
        if self.minutes is not None:
            check_real("minutes", self.minutes, 0, ends=False)
        if self.evaluations is not None:
            check_whole("evaluations", self.evaluations, 0)
        check_whole("search_images", self.search_images, 1)
        check_whole("layer_epochs", self.layer_epochs, 0)
        check_seed(self.seed)


@dataclass(frozen=True)
class ConstraintOptions:
    """Constraints on the cut.

    Each may be given several times, and the last match of a layer counts. In Python a single value, several
    of them or a mapping from patterns to numbers will do; a set is sorted, and None is none.

    Raises:
        ValueError: If a value is not a number, or out of its range, or a pattern is given two numbers.
    """

    round_to: Repeated = ()
    """Multiple of the numbers of filters: 8, or PATTERN=8; numbers of kept filters, in all layers or in those
    that match, are rounded to it where possible; at least 1."""
    protect: Repeated = ()
    """Layers that keep all filters: conv1 or 'layer1.*'; a pattern of their names."""
    max_sparsity: Repeated = ()
    """Largest removed share of a layer: 0.8 or PATTERN=0.8; the share of its filters, in (0, 1), for all
    layers or those that match."""
    size: Repeated = ()
    """Attribute that counts filters: cfg.dim=conv1; for code that reads it in a way that no trace can see."""
    allow_inexact: Repeated = ()
    """Inexact cuts that are allowed: layernorm; they remove channels over which a normalisation averages."""
    also_trace: Repeated = ()
    """Another call: 3x40x40, embed or embed:3x40x40; the size of an input, a method of the network, or both.
    It is traced and checked, too. MACs and latency are those of the data's inputs."""

    def __post_init__(self) -> None:
        for name in ("round_to", "protect", "max_sparsity", "size", "allow_inexact", "also_trace"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        _ = self.constraints  # checks the values

    @property
    def constraints(self) -> Constraints:
        """The options as :class:`.Constraints`."""
        return Constraints(
            round_to=_by_pattern("--round-to", self.round_to, int, "8"),
            protect=self.protect,
            max_sparsity=_by_pattern("--max-sparsity", self.max_sparsity, parse_share, "0.8"),
            sizes=declared_sizes(self.size),
            allow_inexact=self.allow_inexact,
            also_trace=self.also_trace,
        )


@dataclass(frozen=True)
class LatencyOptions:
    """Latency measurements.

    Raises:
        ValueError: If a number is out of its range, or the data type or device is not available.
    """

    latency_batch: int = LatencyConfig.batch
    """Batch size of latency measurements, at least 1."""
    latency_threads: int = LatencyConfig.threads
    """CPU threads in latency measurements, at least 1."""
    latency_dtype: Precision = LatencyConfig.dtype
    """Data type of weights and images in latency measurements."""
    latency_device: str | None = LatencyConfig.device
    """Device of latency measurements, cpu or cuda; by default the device of the pruning run."""

    advanced: ClassVar[bool] = True
    """Whether the short help only names the options."""

    def __post_init__(self) -> None:
        _ = self.latency  # checks the values

    @property
    def latency(self) -> LatencyConfig:
        """The options as a :class:`.LatencyConfig`."""
        return LatencyConfig(
            self.latency_batch, self.latency_threads, self.latency_dtype, self.latency_device
        )


@dataclass(frozen=True)
class EngineOptions:
    """Processes of the search; they change no result.

    Raises:
        ValueError: If a number is out of its range, or a name is unknown.
    """

    engine: str = LOCAL
    """Where candidates are measured: local, ray, or ADDRESS; that of a Ray cluster. ray takes the cluster
    that the environment variable RAY_ADDRESS names, or else starts one on this machine for the time of the
    search (pip install 'secateur[ray]')."""
    search_workers: int | None = None
    """Processes that measure candidates, at least 1; each on a GPU, or on a core. By default this process
    measures alone, with ray as many processes as the cluster has GPUs or cores."""

    advanced: ClassVar[bool] = True
    """Whether the short help only names the options."""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES and ":" not in self.engine:
            raise ValueError(unknown_name("engine", self.engine, ENGINES))
        if self.search_workers is not None:
            check_whole("search_workers", self.search_workers, 1)


@dataclass(frozen=True)
class BlockOptions:
    """Blocks that may go as a whole.

    Raises:
        ValueError: If the number is out of its range.
    """

    drop_blocks: int | Literal["auto"] | None = None
    """Residual blocks to drop before filters: their number, at least 0, or auto; the least important go, and
    a constant is added in their place. auto compares numbers of blocks at the target. By default none."""

    advanced: ClassVar[bool] = True
    """Whether the short help only names the options."""

    def __post_init__(self) -> None:
        if isinstance(self.drop_blocks, str):
            if self.drop_blocks != "auto":
                raise ValueError(f"drop_blocks is {self.drop_blocks!r}; give a whole number, or auto")
        elif self.drop_blocks is not None:
            check_whole("drop_blocks", self.drop_blocks, 0)


def _words(name: str, given: Any) -> tuple[str, ...]:
    """Convert a value, several values or a mapping to the words of the command line; None gives none.

    Raises:
        ValueError: If a value is neither a text nor a number.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(f"{pattern}={value}" for pattern, value in given.items())
    is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    values = list(given) if is_several else [given]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (str, Real)):
            raise ValueError(f"{name} is {short(repr(given))}; give texts or numbers, one or several of them")
    words = map(str, values)
    return tuple(sorted(words) if isinstance(given, (set, frozenset)) else words)


def declared_sizes(words: tuple[str, ...]) -> dict[str, str]:
    """Split values of ``--size`` into attribute and layer.

    Raises:
        ValueError: If a value is not of the form ``cfg.dim=conv1``, or an attribute is given two layers.
    """
    sizes: dict[str, str] = {}
    for word in words:
        path, _, layer = word.partition("=")
        if not path or not layer:
            raise ValueError(f"--size is {word!r}; give an attribute and a layer, such as cfg.dim=conv1")
        if sizes.setdefault(path, layer) != layer:
            raise ValueError(
                f"--size gives {path} the layers {sizes[path]} and {layer}; leave one of them out"
            )
    return sizes


def _by_pattern(flag: str, words: tuple[str, ...], convert: Callable[[str], T], example: str) -> dict[str, T]:
    """Split values into pattern and number; a number alone is for all layers."""
    numbers: dict[str, T] = {}
    for word in words:
        pattern, _, value = word.rpartition("=")
        pattern = pattern or "*"
        try:
            number = convert(value)
        except ValueError as error:
            raise ValueError(
                f"{flag} is {word!r}; give a number such as {example}, or PATTERN={example}"
            ) from error
        if pattern in numbers and numbers[pattern] != number:
            both = f"{numbers[pattern]:g} and {number:g}"
            layers = "all layers" if pattern == "*" else pattern
            raise ValueError(f"{flag} is {both} for {layers}; leave one of them out")
        numbers.pop(pattern, None)  # the last match counts, so it has to be at the end
        numbers[pattern] = number
    return numbers
