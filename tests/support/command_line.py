"""The command line, called with wrong words."""

from __future__ import annotations

import pytest

from secateur.agent.cli import main


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run words that are wrong and give the one line that they get, the last of all."""
    assert main(words) == 2
    *before, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("secateur: ")
    assert not [line for line in before if line.startswith(("secateur: ", "Traceback"))], before
    return error
