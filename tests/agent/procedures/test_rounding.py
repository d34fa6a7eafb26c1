"""What is said of layers whose filters have no multiple to be rounded to."""

from __future__ import annotations

import pytest

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.preparation import prepare
from secateur.agent.procedures.prune import prune
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network


@pytest.mark.parametrize(
    ("multiple", "said"),
    [
        (64, "with others: 0 (10), 3 (14); give a smaller"),
        (12, "with others: 0 (10); give a smaller"),
        (4, None),
    ],
)
def test_layers_narrower_than_the_multiple_are_named(
    multiple: int, said: str | None, digit_task: ClassificationTask
) -> None:
    config = PruningConfig(method="l2-uniform", round_to=multiple, epochs=0)
    notes = prepare(plain_network(), digit_task, config).notes
    assert [said in note for note in notes if said] == ([True] if said else [])


def test_where_nothing_is_rounded_there_is_no_row_without_rounding(digit_task: ClassificationTask) -> None:
    for multiple, rounds in ((64, False), (4, True)):
        config = PruningConfig(method="l2-uniform", round_to=multiple, epochs=0)
        report = prune(plain_network(), digit_task, config).report
        assert ("unrounded" in report) == rounds
        assert any("--round-to" in note for note in report["splits"]["notes"]) != rounds
