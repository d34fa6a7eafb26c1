"""What the pages of help promise: the everyday first, in few lines and plain words, and all that there is."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

import pytest
import tyro

from secateur.agent.cli import main
from secateur.agent.commands.help_page import overview, verb_page
from secateur.agent.commands.parsing import VERBS, parse
from secateur.agent.run.flat_options import Option, from_flat, options_of

EVERY = pytest.mark.parametrize("verb", VERBS)


def page(verb: str, *, in_full: bool = False, width: int = 80) -> list[str]:
    return list(verb_page(verb, VERBS[verb], width, in_full=in_full))


def position(option: Option, lines: list[str]) -> int:
    """Give the first line of an option."""

    pattern = re.compile(rf"  ({re.escape(option.flag)}|{option.name.upper()})(\.\.\.)?( |$)")
    found = [number for number, line in enumerate(lines) if pattern.match(line)]
    assert len(found) == 1, (option.name, found)
    return found[0]


@EVERY
def test_a_page_fits_two_screens(verb: str) -> None:
    lines = page(verb)
    assert len(lines) <= 100
    assert max(len(line) for line in lines if not line.startswith("  $ ")) <= 80


@EVERY
def test_no_text_of_the_short_page_is_cut_within_a_clause(verb: str) -> None:
    assert [line for line in page(verb) if "…" in line] == []


@EVERY
@pytest.mark.parametrize("in_full", [False, True])
def test_a_page_has_plain_words_for_types_and_defaults(verb: str, in_full: bool) -> None:
    text = "\n".join(page(verb, in_full=in_full))
    assert "None" not in text
    assert "{" not in text
    assert "``" not in text
    assert "Path(" not in text


@EVERY
def test_the_everyday_comes_first_and_in_its_order(verb: str) -> None:
    everyday: Any = getattr(VERBS[verb], "everyday")  # noqa: B009 - not all members of the union are known to have it
    options = {option.name: option for option in options_of(VERBS[verb])}
    lines = page(verb)
    where = [position(options[name], lines) for name in everyday]
    assert where == sorted(where)
    headings = [number for number, line in enumerate(lines) if line and not line.startswith(" ")]
    assert lines[max(number for number in headings if number < where[0])] == "Options"
    assert min(number for number in headings if number > where[0]) > where[-1]


@EVERY
def test_every_option_is_named_and_in_full_has_its_text_and_default(verb: str) -> None:
    short, lines = "\n".join(page(verb)), page(verb, in_full=True, width=100)
    for option in options_of(VERBS[verb]):
        if tyro.conf.Suppress in getattr(option.kind, "__metadata__", ()):
            continue
        start = position(option, lines)
        own = [lines[start], *itertools.takewhile(lambda line: line.startswith(" " * 20), lines[start + 1 :])]
        text = " ".join(" ".join(own).split())
        assert len(text) > len(option.flag) + 9, option
        assert re.search(rf"{option.flag}\b|\b{option.name.upper()}\b", short), option
        if option.default not in (MISSING, None, False, ()):
            values = option.default if isinstance(option.default, tuple) else (option.default,)
            shown = " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            assert f"(default {shown})" in text, option


@EVERY
def test_the_examples_can_be_typed(verb: str) -> None:
    examples = [line.removeprefix("  $ ") for line in page(verb) if line.startswith("  $ ")]
    assert 1 <= len(examples) <= 2
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "secateur"
        assert words[0] == verb
        assert isinstance(parse(words), VERBS[verb])


def test_the_program_has_one_line_for_each_verb_and_two_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
    start = lines.index("Commands") + 1
    assert [line.split()[0] for line in lines[start : start + len(VERBS)]] == list(VERBS)
    assert not lines[start + len(VERBS)]
    examples = [shlex.split(line)[2:] for line in lines if line.startswith("  $ ")]
    assert len(examples) == 2
    assert all(isinstance(parse(words), VERBS[words[0]]) for words in examples)


def test_the_lines_are_filled() -> None:
    margin = " " * 27
    lines = [line for verb in VERBS for line in page(verb, in_full=True)]
    pairs = [(a, b) for a, b in itertools.pairwise(lines) if a.startswith(" ") and b.startswith(margin)]
    filled = [pair for pair in pairs if not pair[0].startswith("  -") or len(pair[0]) > 60]
    assert len(filled) > 100
    assert not [above for above, below in filled if len(f"{above} {below.split()[0]}") <= 80]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--help-all"], ["prune", "--epochs", "-h"]])
def test_help_is_asked_for_anywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: secateur {words[0] if words[0] in VERBS else 'COMMAND'}")
    assert not said.err


def test_a_narrow_terminal_wraps_and_a_wide_one_does_not_stretch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    longest = {}
    for width in (72, 80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["prune", "--help-all"]) == 0
        lines = capsys.readouterr().out.splitlines()
        longest[width] = max(len(line) for line in lines if not line.startswith("  $ "))
    assert longest[72] <= 72 < longest[80] <= 80 < longest[100] == longest[200] <= 100


def test_what_only_programs_set_is_on_no_page() -> None:
    @dataclass
    class Verb:
        """Do something."""

        shown: int = 1
        """Number that a user gives."""
        hidden: tyro.conf.Suppress[int | None] = None
        """Number that the program finds out."""

        everyday: ClassVar[tuple[str, ...]] = ()
        example: ClassVar[str] = "secateur verb"

    for in_full in (False, True):
        text = "\n".join(verb_page("verb", Verb, 80, in_full=in_full))
        assert "--shown N" in text
        assert "hidden" not in text
    assert from_flat(Verb, {"hidden": 3}).hidden == 3


def test_the_overview_of_the_verbs_has_no_more_than_it_was_given() -> None:
    lines = list(overview({"runs": VERBS["runs"]}, 80))
    assert [line for line in lines if "prune" in line] == [line for line in lines if line.startswith("  $ ")]
