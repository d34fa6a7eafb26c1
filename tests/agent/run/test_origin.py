"""A run goes on with what it was begun with, as far as that is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from secateur.agent.run.origin import NOTHING_KNOWN, Origin
from secateur.envs.io.run_files import CONFIG

BEGUN = Origin("abc", "40 20 ~0.25 1", "def")


@pytest.mark.parametrize(
    ("now", "other"),
    [
        (BEGUN, ""),
        (NOTHING_KNOWN, ""),
        (Origin("abc"), ""),
        (Origin("abc", "40 20 ~0.250001 1"), ""),
        (Origin("abc", agent_weights="deg"), "weights of the agent"),
        (Origin("abd", "40 20 ~0.25 1"), "weights of the dense network or the teacher"),
        (Origin("abc", "40 20 ~0.26 1"), "data"),
        (Origin("abc", "40 20 ~0.25 1 2"), "data"),
    ],
)
def test_what_is_known_has_to_be_the_same(tmp_path: Path, now: Origin, other: str) -> None:
    (tmp_path / CONFIG).write_text(yaml.safe_dump({"verb": "prune"} | BEGUN.known))
    if not other:
        now.check(tmp_path)
        return
    with pytest.raises(ValueError, match=f"was begun with other {other}; give the same, or a new folder"):
        now.check(tmp_path)


def test_a_run_of_an_older_version_says_nothing_of_its_data(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(yaml.safe_dump({"verb": "prune", "dense_weights": "abc"}))
    BEGUN.check(tmp_path)
