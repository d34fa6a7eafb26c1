"""Each default stands in one place: what a verb leaves out is what its configuration says."""

from __future__ import annotations

import pytest

from secateur.agent.cli import main
from secateur.agent.commands import Prune, Train
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.options import DEFAULT_TARGET
from secateur.envs.cost.config import LatencyConfig
from secateur.envs.recovery.config import DENSE_EPOCHS, EPOCHS, RecoveryConfig


def test_prune_without_options_is_the_configuration_without_options() -> None:
    assert Prune().options == PruningConfig()
    assert PruningConfig().recovery == RecoveryConfig(epochs=EPOCHS["normal"])
    assert PruningConfig().recovery.recipe == RecoveryConfig().recipe
    assert PruningConfig().latency == LatencyConfig()
    assert Prune.dense_epochs == Train.dense_epochs == RecoveryConfig.from_scratch().epochs == DENSE_EPOCHS


def test_the_help_says_the_numbers_that_count_where_nothing_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["prune", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{DEFAULT_TARGET:g} if neither another target nor a drop bound is given" in said
