"""Options of a comparison; nothing heavy is imported, as the command line's help reads them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from ...envs.io.ranges import check_seed
from ...envs.io.suggestions import unknown_name
from ...envs.recovery.config import RecoveryConfig
from ...rewards import TargetReward
from ..procedures.config import PruningConfig
from ..procedures.options import EFFORTS, Effort
from ..procedures.shares import Share
from ..run.wording import keywords_in_python

DENSE = "dense"
"""The reference of every comparison, which needs no run of its own."""

USUAL = ("agent", "fpgm-global", "l2-uniform", "gradual", "rank", "small-dense")
"""Systems that a comparison without names has: the agent, the two heuristics that are best after recovery,
and one system of each other idea."""


def size_name(target: float) -> str:
    """Return a target as folders of members name it, six digits; no two of a comparison are alike."""
    return f"{target:g}"


@dataclass(frozen=True)
class ComparisonConfig(RecoveryConfig):
    """Comparison: which systems, at which sizes, how often, and how long.

    Raises:
        ValueError: If a number is out of its range, or a method, a size or a seed is missing or given twice.
    """

    methods: tuple[str, ...] = USUAL
    """Systems to compare: agent, heuristics such as l2-uniform, and those of the page on systems; dense-tuned
    is the dense network, trained on for as many epochs. Commas may separate them."""
    targets: tuple[Share, ...] = (0.5,)
    """Target MACs ratios, pruned / dense, each in (0, 1]; also --target-macs; for systems that remove single
    weights the share of the weights."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of all random numbers; each system prunes with each. The table has mean and deviation. The data
    are split with the first."""
    effort: Effort = "quick"
    """Effort of the agent: quick, normal or thorough; quick does not search, see prune."""

    @keywords_in_python
    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name.strip() for given in self.methods for name in str(given).split(",")]
        object.__setattr__(self, "methods", tuple(name for name in names if name and name != DENSE))
        for what in ("methods", "targets", "seeds"):
            values = getattr(self, what)
            if not values:
                raise ValueError(f"there are no {what} to compare; give at least one")
            names = [size_name(value) if what == "targets" else value for value in values]
            if twice := [value for value in names if names.count(value) > 1]:
                raise ValueError(f"{what} has {twice[0]} twice; give it once")
        if self.effort not in EFFORTS:
            raise ValueError(unknown_name("effort", self.effort, EFFORTS))
        for target in self.targets:
            TargetReward(target)
        for seed in self.seeds:
            check_seed(seed)
        if self.quantize:
            raise ValueError(
                "systems are compared as they are, and those in int8 are int8, fpgm-int8 and agent-int8; "
                "leave out --quantize, and give --methods"
            )
        if self.train_on_val:
            raise ValueError("systems choose on val while they train, so --train-on-val cannot be compared")

    def check_methods(self, known: Collection[str]) -> None:
        """Check the names of the systems.

        Args:
            known: Names of all systems.

        Raises:
            ValueError: If there is no such system.
        """
        for name in self.methods:
            if name not in known:
                raise ValueError(unknown_name("method", name, known))

    def pruning(self, target: float, seed: int) -> PruningConfig:
        """Return the options of one system's run.

        Args:
            target: Its target.
            seed: Its seed.
        """
        recovery = {option.name: getattr(self, option.name) for option in fields(RecoveryConfig)}
        return PruningConfig(**recovery, effort=self.effort, target_macs=target, seed=seed)
