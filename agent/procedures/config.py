"""Options of a pruning run."""

from dataclasses import dataclass, fields
from typing import Any

from ...envs.io.suggestions import unknown_name
from ...envs.recovery.config import EPOCHS, RecoveryConfig
from ..deciders.names import PPO
from ..learning.config import NORMAL, PRETRAINED, RANDOM_WEIGHTS, AgentConfig
from ..run.wording import keywords_in_python
from .options import (
    EFFORTS,
    BlockOptions,
    ConstraintOptions,
    Effort,
    EngineOptions,
    LatencyOptions,
    SearchOptions,
    TargetOptions,
)

_GROUPS = (
    TargetOptions,
    SearchOptions,
    RecoveryConfig,
    ConstraintOptions,
    LatencyOptions,
    EngineOptions,
    BlockOptions,
)


def recovery_for(effort: Effort, **options: Any) -> RecoveryConfig:
    """Return the options of a recovery, with the epochs of an effort if none are given.

    Raises:
        ValueError: If the effort is unknown, or an option is out of its range.
    """
    if effort not in EFFORTS:
        raise ValueError(unknown_name("effort", effort, EFFORTS))
    if options.get("epochs") is None:
        options["epochs"] = EPOCHS[effort]
    return RecoveryConfig(**options)


@dataclass(frozen=True)
class PruningConfig(
    BlockOptions,
    EngineOptions,
    LatencyOptions,
    ConstraintOptions,
    RecoveryConfig,
    SearchOptions,
    TargetOptions,
):
    """Options of a pruning run: the size, the choice of the filters, and the recovery.

    All are keywords: ``PruningConfig(target_macs=0.5, effort="quick", epochs=5, round_to=8)``. They are the
    words of the command line, with underscores.

    Raises:
        ValueError: If a number is out of its range, a name is unknown, or options exclude each other.
    """

    @keywords_in_python
    def __post_init__(self) -> None:
        for group in _GROUPS:
            group.__post_init__(self)
        if self.drop_blocks:
            self._check_options_of_blocks()
        self._check_options_of_procedure()
        if self.method != PPO:
            for name, given in (("agent", self.agent), ("evaluations", self.evaluations)):
                if given is not None:
                    raise ValueError(
                        f"the method {self.method} learns nothing; leave out --{name} or --method"
                    )
        if self.bound_after_recovery is not None:
            self._check_options_of_bound()
        elif self.method == PPO and self.agent_source == RANDOM_WEIGHTS and not self.learning.evaluations:
            raise ValueError(
                "an agent with random weights has to learn, and no search was asked for; give --evaluations "
                "above 0, or an --effort above quick"
            )

    def _check_options_of_procedure(self) -> None:
        """Refuse options that the procedure does not have.

        Raises:
            ValueError: If one was given.
        """
        if self.procedure != "layerwise":
            if self.layer_epochs != PruningConfig.layer_epochs:
                raise ValueError("--layer-epochs is for --procedure layerwise; leave it out, or give both")
            return
        if self.quantize:
            raise ValueError(
                "layerwise measures and trains its layers in float; leave out --quantize, or --procedure"
            )
        if self.minutes is not None:
            raise ValueError(
                "layerwise gives the agent of each layer a share of the evaluations, and looks at no clock; "
                "leave out --minutes, or give fewer --evaluations"
            )

    def _check_options_of_bound(self) -> None:
        """Refuse options that a bound on the drop after the recovery leaves no room for.

        Raises:
            ValueError: If one was given.
        """
        if self.train_on_val:
            raise ValueError(
                "a drop bound is checked on images of val after the fine-tuning, and --train-on-val would "
                "leave none; leave it out, or give --target-macs"
            )
        reason = "a drop bound tries many sizes with one frozen agent"
        if self.evaluations:
            raise ValueError(f"{reason} and searches for none of them; leave out --evaluations")
        if self.minutes is not None:
            raise ValueError(f"{reason}, so no search can be cut short; leave out --minutes")
        if self.method == PPO and self.agent_source == RANDOM_WEIGHTS:
            raise ValueError(f"{reason}, and one with random weights knows nothing; leave out --agent")

    def _check_options_of_blocks(self) -> None:
        """Refuse options that dropped blocks do not go with.

        Raises:
            ValueError: If one was given.
        """
        if self.drop_bound is not None:
            raise ValueError(
                "blocks are compared at one size, and a drop bound tries many; leave out --drop-blocks, or "
                "give --target-macs or --target-latency"
            )
        if self.procedure == "layerwise":
            raise ValueError("layerwise prunes the layers of the dense network; leave out --drop-blocks")

    @property
    def bound_after_recovery(self) -> float | None:
        """Largest accuracy drop after the recovery, percentage points; None if there is no such bound.

        That of layerwise is one on drops before the fine-tuning.
        """
        return self.drop_bound if self.procedure == "network" else None

    @property
    def choice_images(self) -> int:
        """Number of validation images for measuring what was chosen.

        Candidates of ResNet-20 measured on 512 images have a rank correlation of 0.8 (Spearman) with their
        accuracies on test, on 2048 images 0.9.
        """
        return 8 * self.search_images

    @property
    def look_images(self) -> tuple[int, int]:
        """Number of images for a look at all proposals, and for one at the best of them."""
        return 2 * self.search_images, 8 * self.search_images

    @property
    def recovery(self) -> RecoveryConfig:
        """The options of the recovery alone, with the epochs of the effort."""
        given = {option.name: getattr(self, option.name) for option in fields(RecoveryConfig)}
        return recovery_for(self.effort, **given)

    @property
    def learning(self) -> AgentConfig:
        """Training of the ppo agent on this network, with defaults resolved."""
        if self.evaluations is not None:
            return AgentConfig(evaluations=self.evaluations)
        if self.bound_after_recovery is not None:
            return AgentConfig(evaluations=0)
        is_folder = self.agent_source not in (PRETRAINED, RANDOM_WEIGHTS)
        if self.effort == "quick" or is_folder:
            return AgentConfig(evaluations=0)
        if self.effort == "thorough":
            return AgentConfig()
        return AgentConfig(**NORMAL)

    @property
    def agent_source(self) -> str:
        """Initial agent of ppo: a folder, :data:`.PRETRAINED` or :data:`.RANDOM_WEIGHTS`."""
        if self.agent is not None:
            return self.agent
        return RANDOM_WEIGHTS if self.procedure == "layerwise" and self.effort != "quick" else PRETRAINED
