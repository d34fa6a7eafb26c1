"""Accuracy over size, an agent beside baselines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secateur.agent.cli import main
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.training import train_agent
from secateur.agent.procedures.frontier import frontier
from secateur.envs.problem.problem import PruningProblem
from secateur.rewards import TargetRange

TARGETS = (0.3, 0.6, 0.9)


def test_every_decider_meets_every_target_and_more_filters_know_more(problem: PruningProblem) -> None:
    agent = train_agent([problem], TargetRange(), AgentConfig(32)).decider
    points = list(frontier(problem, [agent, Baseline.from_name("l2-uniform")], TARGETS))
    assert [(p.method, p.target) for p in points] == [(m, t) for m in ("ppo", "l2-uniform") for t in TARGETS]
    for point in points:
        assert point.target - 0.02 <= point.macs_ratio <= point.target
    for method in ("ppo", "l2-uniform"):
        accuracies = [p.accuracy for p in points if p.method == method]
        assert accuracies[-1] > accuracies[0] + 1


def test_several_points_at_a_time_are_those_of_one_process_in_order(problem: PruningProblem) -> None:
    deciders = [Baseline.from_name("l2-uniform"), Baseline.from_name("random-global", 3)]
    choice = problem.choice_problem(100)
    one_by_one = list(frontier(choice, deciders, TARGETS, seed=1))
    assert list(frontier(choice, deciders, TARGETS, seed=1, jobs=2)) == one_by_one
    assert len(set(one_by_one)) == 6


def test_the_command_line_draws_the_curve_of_a_trained_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, weights = tmp_path / "agent", tmp_path / "agent" / "dense-demo.safetensors"
    assert main(["train", "demo", "--evaluations", "16", "--dense-epochs", "1", "--out", str(agent)]) == 0
    card = json.loads((agent / "agent.json").read_text())
    assert card["trained_on"]["reward"] == {"name": "TargetRange", "low": 0.2, "high": 0.9, "size": "macs"}
    out = tmp_path / "curve"
    words = ["frontier", "demo", "--agent", str(agent), "--weights", str(weights), "--out", str(out)]
    words += ["--normalisation", "digits"]  # one epoch leaves it to chance which one suits
    assert main([*words, "--targets", "0.4", "0.8", "0.4", "--methods", "l1-global", "l1-global"]) == 0
    content = json.loads((out / "frontier.json").read_text())
    assert [(p["method"], p["target"]) for p in content["points"]] == [
        ("ppo", 0.4),
        ("ppo", 0.8),
        ("l1-global", 0.4),
        ("l1-global", 0.8),
    ]
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "l1-global" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--agent", "nowhere"], "does not exist"),
        (["--agent", "nowhere", "--methods", "l3-uniform"], "did you mean"),
        (["--agent", "nowhere", "--targets", "0.5", "1.5"], "1.5"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve"
    assert main(["frontier", "demo", "--weights", "w.pt", *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()
