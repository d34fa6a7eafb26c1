"""Users of Python read keywords in errors, users of the command line flags."""

from __future__ import annotations

from typing import Any

import pytest

import secateur
from secateur.agent.cli import main
from secateur.agent.procedures.python_words import with_keywords
from secateur.agent.run.progress import log_info
from secateur.agent.run.wording import wording
from support.small import plain_network


@pytest.mark.parametrize(
    ("flags", "keywords"),
    [
        ("leave out --quantize, or --procedure", "leave out quantize, or procedure"),
        ("give --target-macs or --target-latency", "give target_macs or target_latency"),
        ("give --drop-blocks 2 at most", "give drop_blocks=2 at most"),
        ("raise --max-sparsity 0.5, please", "raise max_sparsity=0.5, please"),
        ("give --download to download it", "give download=True to download it"),
        ("the task failed (KeyError: 1); --debug shows where", "the task failed (KeyError: 1)"),
        ("start one with `ray start --head`", "start one with `ray start --head`"),
        ("target_macs is 2; it is at most 1 -- no flag", "target_macs is 2; it is at most 1 -- no flag"),
    ],
)
def test_flags_become_keywords(flags: str, keywords: str) -> None:
    assert with_keywords(flags) == keywords


def test_errors_of_python_name_keywords() -> None:
    layerwise = {"quantize": "int8", "procedure": "layerwise", "drop_bound": 2}
    with pytest.raises(ValueError, match=r"; leave out quantize, or procedure$"):
        secateur.prune(plain_network(), "digits", **layerwise)
    with pytest.raises(ValueError, match=r"leave out quantize, and give methods$"):
        secateur.compare(plain_network(), "digits", quantize="int8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer_epochs": 3}, "layer_epochs is for procedure layerwise; leave it out, or give both"),
        (
            {"method": "l2-uniform", "agent": "none"},
            "the method l2-uniform learns nothing; leave out agent or",
        ),
        ({"drop_bound": 2, "train_on_val": True}, ".* and train_on_val=True would leave none; .*target_macs"),
        ({"round_to": "x"}, "round_to is 'x'; give a number such as 8"),
    ],
)
def test_options_made_in_python_name_keywords(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        secateur.PruningConfig(**options)
    with wording(str), pytest.raises(ValueError, match="--"):
        secateur.PruningConfig(**options)


def test_a_target_that_constraints_forbid_names_keywords() -> None:
    with pytest.raises(ValueError, match="fewest filters that round_to, protect and max_sparsity allow"):
        secateur.search(plain_network(), "digits", max_sparsity=0.1, target_macs=0.1)


def test_errors_of_the_command_line_name_flags(capsys: pytest.CaptureFixture[str]) -> None:
    words = "prune demo --drop-bound 2 --quantize int8 --procedure layerwise"
    assert main(words.split()) == 2
    assert capsys.readouterr().err.endswith("; leave out --quantize, or --procedure\n")


def test_messages_and_notes_name_keywords_in_python_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log_info("give a lower --learning-rate")
    with wording(with_keywords):
        log_info("give a lower --learning-rate")
    assert capsys.readouterr().err == "give a lower --learning-rate\ngive a lower learning_rate\n"
