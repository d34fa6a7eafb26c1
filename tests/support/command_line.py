"""The command line, called with wrong words."""

from __future__ import annotations

import pytest

from secateur.agent.cli import main


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run words that are wrong and give the one line that they get."""
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert "Traceback" not in error
    return error
