"""What the terminal promises: how far it is and how long it takes, plainly in a log, nothing where asked."""

from __future__ import annotations

import contextlib
import io
import sys
import types

import pytest

from secateur.agent.cli import main
from secateur.agent.learning.callbacks import ProgressBar
from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.training import train_agent
from secateur.agent.run import progress
from secateur.agent.run.progress import Stage, Verbosity, log_info, log_verbose, verbosity
from secateur.agent.run.recovery_monitor import RecoveryMonitor
from secateur.agent.run.search_history import SearchHistory
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.callbacks import Progress
from secateur.rewards import TargetReward
from support.toy import toy_of


class Terminal(io.StringIO):
    """Something that takes bars."""

    def isatty(self) -> bool:
        return True


def work(steps: int = 20, *, leave: bool = True) -> None:
    stage = Stage("search", steps, "candidates", leave=leave)
    for done in range(1, steps + 1):
        stage.advance(done, f"reward {done}")
    stage.close()


def test_a_terminal_gets_one_line_that_moves_and_says_how_long_it_takes() -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal:
        work()
    shown = terminal.getvalue()
    assert shown.count("\n") == 1
    last = shown.rpartition("\r")[2]
    for part in ("search: 100%", "20/20 candidates", "so far", "00:00 left", "reward 20"):
        assert part in last, part


def test_a_log_gets_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    shown = capsys.readouterr().err
    assert shown == "search: 20 of 20 candidates, took 00:00, reward 20\n"
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    work(4)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("search: 1 of 4 candidates, 00:00 left")


def test_what_was_done_before_is_no_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock["now"])
    stage = Stage("search", 1000, "candidates")
    for clock["now"], done in ((1.0, 800), (31.0, 810), (61.0, 830)):
        stage.advance(done, "")
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "search: 810 of 1,000 candidates, 09:30 left",  # three seconds each
        "search: 830 of 1,000 candidates, 04:15 left",  # one and a half
    ]


def test_a_stage_that_does_not_stay_leaves_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    work(leave=False)
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet() -> None:
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with verbosity(Verbosity.QUIET):
            work()
            log_info("something")
            log_verbose("more")
        assert terminal.getvalue() == ""
        log_info("something")
    assert terminal.getvalue() == "something\n"


def test_details_are_for_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    log_verbose("this")
    with verbosity(Verbosity.VERBOSE):
        log_verbose("that")
    assert capsys.readouterr().err == "that\n"


def test_the_search_counts_candidates_and_says_the_reward(
    problem: PruningProblem, capsys: pytest.CaptureFixture[str]
) -> None:
    history = SearchHistory()
    watchers = [ProgressBar(history, 40)]
    train_agent([toy_of(problem)], TargetReward(0.5), AgentConfig(40), callbacks=watchers, history=history)
    shown = capsys.readouterr().err
    assert shown.startswith("search: 40 of 40 candidates, took")
    assert "reward " in shown


def test_the_recovery_says_epoch_loss_and_speed(
    problem: PruningProblem, capsys: pytest.CaptureFixture[str]
) -> None:
    with RecoveryMonitor(problem.task, None, "recovery") as monitor:
        monitor.on_step(Progress(2, 3, 5, 10, 0.25, 0.01, 1234.4))
    shown = capsys.readouterr().err
    assert shown.startswith("recovery: 15 of 30 steps")
    assert "epoch 2/3, loss 0.250, 1234 images/s" in shown


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--quiet", "--verbose"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_notebook_gets_a_bar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ipykernel", "IPython"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    with contextlib.redirect_stderr(io.StringIO()) as cell:
        work()
    assert "20/20 candidates" in cell.getvalue().rpartition("\r")[2]
