"""Each default stands in one place: what a verb leaves out is what its configuration says."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pytest

from secateur.agent.cli import main
from secateur.agent.commands import Prune, Train
from secateur.agent.learning.config import AgentConfig
from secateur.agent.procedures.config import DEFAULT_TARGET, LatencyOptions, PruningConfig
from secateur.envs.cost.config import LatencyConfig
from secateur.envs.recovery.config import DENSE_EPOCHS, RecoveryConfig


def defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


def test_prune_without_options_is_the_configuration_without_options() -> None:
    shared = defaults(PruningConfig) | defaults(RecoveryConfig)
    own = defaults(Prune)
    assert {name: own[name] for name in own.keys() & shared.keys()} == {
        name: shared[name] for name in own.keys() & shared.keys()
    }
    assert len(own.keys() & shared.keys()) >= 12
    assert LatencyOptions().config() == LatencyConfig()
    assert Prune.dense_epochs == Train.dense_epochs == RecoveryConfig.from_scratch().epochs == DENSE_EPOCHS


def test_the_help_says_the_numbers_that_count_where_nothing_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"{DEFAULT_TARGET:g} if neither another target nor a drop bound is given" in said
    assert f"By default {AgentConfig.evaluations}, or 0 with an agent from a folder" in said
