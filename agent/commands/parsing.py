"""Parsing of the command line into a verb."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, field, make_dataclass
from pathlib import Path
from typing import Any, get_args

import tyro

from ...envs.io.suggestions import did_you_mean, unknown_name
from ..procedures.data_config import OF_ANY_TASK, DataConfig, is_own_task, refuse_data_option
from ..run.flat_options import Option, build, in_words, options_of
from . import Evaluate, Verb
from .config_file import read_config_file
from .help_page import clause, field_text

VERBS: dict[str, type[Verb]] = {verb.__name__.lower(): verb for verb in get_args(Verb)}
"""The verbs by name."""


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Codes for colours, which tyro puts between words on a terminal."""


class UsageError(Exception):
    """The command line cannot be parsed."""


def parse(words: list[str]) -> Verb:
    """Parse arguments into a verb with its options.

    Raises:
        UsageError: If they are wrong; the message is one line.
        ValueError: If a file of options is wrong, or the verb refuses a value.
    """
    name, *words = words or [""]
    if not name:
        raise UsageError(f"no command was given; give {', '.join(VERBS)}; see secateur --help")
    if name not in VERBS:
        raise UsageError(f"{unknown_name('command', name, VERBS)}; see secateur --help")
    kind = VERBS[name]
    words, file = _without_config(words)
    given = {} if file is None else read_config_file(file, name, kind)
    verb = _parse(name, kind, words, given)
    if isinstance(verb, Evaluate) and verb.is_run:  # once more, now that the run is known
        verb = _parse(name, kind, words, verb.defaults() | given)
    return verb


def _without_config(words: list[str]) -> tuple[list[str], Path | None]:
    """Take ``--config FILE`` out of the arguments."""
    others: list[str] = []
    file: Path | None = None
    rest = iter(words)
    for word in rest:
        flag, is_joined, value = word.partition("=")
        if flag != "--config":
            others.append(word)
            continue
        value = value if is_joined else next(rest, "")
        if not value or value.startswith("--"):
            raise UsageError("--config has no value; give a YAML file of options")
        if file is not None:
            raise UsageError("--config was given twice; give one file")
        file = Path(value)
    return others, file


def _parse(name: str, kind: type[Verb], words: list[str], given: dict[str, Any]) -> Verb:
    """Parse the options of a verb.

    Args:
        name: Name of the verb.
        kind: Its class.
        words: Arguments after its name.
        given: Options by name that arguments override.
    """
    options = {option.flag: option for option in options_of(kind)}
    words = [_with_own_flag(word, getattr(kind, "aliases", {})) for word in words]
    flags = Counter(word.split("=")[0].replace("_", "-") for word in words)
    for flag, option in options.items():
        if flags[flag] > 1 and tyro.conf.UseAppendAction not in get_args(option.kind):
            raise UsageError(f"{flag} was given twice; give it once; see secateur {name} --help")
    entries: list[Any] = []
    for flag, option in options.items():
        # A repeated flag would be added to what a file gives, so the file's value goes.
        default = option.default if flag in flags else given.get(option.name, option.default)
        entries.append((option.name, option.kind, field() if default is MISSING else field(default=default)))
    # Without the verbs' own checks, so that an argument can replace what they would refuse.
    flat = make_dataclass(name, entries, kw_only=True)
    # A flag that a file sets can be taken back, so flags are pairs then.
    config = () if given else (tyro.conf.FlagCreatePairsOff,)
    message, advice = io.StringIO(), f"see secateur {name} --help"
    parsed: Any
    try:
        with contextlib.redirect_stderr(message):
            parsed, unknown = tyro.cli(
                flat, args=words, prog=name, add_help=False, config=config, return_unknown_args=True
            )
    except SystemExit:
        said = _COLOUR.sub("", message.getvalue())
        raise UsageError(f"{_explain(said, words, options)}; {advice}") from None
    if unknown:
        what = "option" if unknown[0].startswith("-") else "place for the argument"
        raise UsageError(f"there is no {what} {unknown[0]}{did_you_mean(unknown[0], options)}; {advice}")
    values = vars(parsed)
    if is_own_task(values.get("task") or ""):
        of_data = (option.flag for option in options_of(DataConfig) if option.name not in OF_ANY_TASK)
        if given_with := [flag for flag in of_data if flags[flag]]:  # with its default value, too
            refuse_data_option(values["task"], given_with[0])
    return build(kind, values)


def _with_own_flag(word: str, aliases: Mapping[str, str]) -> str:
    """Replace another name of a flag by its own."""
    flag, is_joined, value = word.partition("=")
    return f"{aliases.get(flag.replace('_', '-'), flag)}{is_joined}{value}"


def _explain(message: str, words: list[str], options: dict[str, Option]) -> str:
    """Say in one line what is wrong with the words, from tyro's message in a frame."""
    if "Missing from " in message:
        missing = next(option for option in options.values() if option.default is MISSING)
        return f"an argument is missing, {missing.name}: {clause(field_text(missing))}"
    flag = next((flag for flag in re.findall(r"--[\w-]+", message) if flag in options), None)
    if flag is None:
        return f"{' '.join(words)} is not understood"
    given = ", ".join(map(repr, _values(flag, words)))
    return f"{flag} {f'is {given}' if given else 'has no value'}; give {in_words(options[flag].kind)}"


def _values(flag: str, words: list[str]) -> list[str]:
    """Return the values of a flag, as they were given."""
    values, is_own = [], False
    for word in words:
        name, is_joined, value = word.partition("=")
        if word.startswith("--"):
            is_own = name.replace("_", "-") == flag
            values += [value] if is_own and is_joined else []
        elif is_own:
            values.append(word)
    return values
