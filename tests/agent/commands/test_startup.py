"""What answers at once: no process that need not wait for torch does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from secateur.agent.reporting.report import write_report
from support.reports import demo_report

HEAVY = {
    "torch",
    "torchvision",
    "stable_baselines3",
    "scipy",
    "sklearn",
    "tensorboard",
    "pandas",
    "matplotlib.pyplot",
}

SCRIPT = f"""
import sys
from secateur.agent.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:  # of --help
    code = stop.code
print(*({HEAVY} & sys.modules.keys()), file=sys.stderr)
sys.exit(code)
"""

VERBS = ("inspect", "prune", "train", "resume", "evaluate", "export", "frontier", "report", "runs")


def said_and_loaded(words: list[str]) -> tuple[str, str]:
    """Run the command line in a process of its own; give its output, and what of the heavy it imported."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.strip()


@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS)])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    said, loaded = said_and_loaded([*words, "--help"])
    assert "usage: secateur" in said
    assert loaded == ""


def test_the_list_of_runs_and_a_report_import_nothing_heavy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_report(run, demo_report() | {"built_by_name": True})
    (run / "report.html").unlink()
    listed, loaded = said_and_loaded(["runs", str(tmp_path)])
    assert "finished" in listed
    assert loaded == ""
    _, loaded = said_and_loaded(["report", str(run)])
    assert (run / "report.html").is_file()
    assert loaded == ""
