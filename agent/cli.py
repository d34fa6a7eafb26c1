"""The command line: parse it, run a verb of :mod:`.commands`, and report its errors in one line."""

import contextlib
import io
import os
import re
import sys
import traceback
import warnings
from dataclasses import MISSING, field, make_dataclass
from pathlib import Path
from typing import Any, get_args

import tyro

from ..envs.io.suggestions import did_you_mean, unknown_name
from .commands import Evaluate, Verb
from .commands.config_file import read_config_file
from .commands.help_page import clause, field_text, print_page
from .commands.process import keep_freed_memory
from .run.flat_options import Option, build, in_words, options_of
from .run.progress import Verbosity, verbosity

VERBS: dict[str, type[Verb]] = {verb.__name__.lower(): verb for verb in get_args(Verb)}

_HELP = ("-h", "--help", "--help-all")
_VERBOSITY = {"--quiet": Verbosity.QUIET, "--verbose": Verbosity.VERBOSE}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: Arguments after the program's name; None takes those of the process.

    Returns:
        The exit status: 0 for success; 2 if the input is wrong or the memory runs out, with one line on
        stderr about the cause and the remedy; 130 if the run is stopped; 141 if the reader closes the output.
        ``--debug`` also prints the traceback; ``--quiet`` and ``--verbose`` set the level of detail.
    """
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    keep_freed_memory()
    try:
        if any(word in _HELP for word in words):
            print_page(VERBS, words)
            return 0
        verb = parse([word for word in words if word not in ("--debug", *_VERBOSITY)])
        with verbosity(_verbosity(words)), warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            verb.run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python prints an error at exit
        return 141  # 128 + SIGPIPE, as other commands
    except UsageError as error:
        return _print_error(str(error), debug)
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        return _print_error(str(error), debug)
    except (MemoryError, RuntimeError) as error:
        from ..envs.io.memory import is_out_of_memory, out_of_memory_line  # here, as --help has to start fast

        if not is_out_of_memory(error):
            raise
        return _print_error(out_of_memory_line(error), debug)
    except KeyboardInterrupt as stop:
        advice = f"; resume with: {stop}" if str(stop) else ""
        print(f"secateur: stopped{advice}", file=sys.stderr)
        return 130
    return 0


def _verbosity(words: list[str]) -> Verbosity:
    levels = [level for word, level in _VERBOSITY.items() if word in words]
    if len(levels) > 1:
        raise UsageError("--quiet and --verbose exclude each other; give one of them")
    return levels[0] if levels else Verbosity.NORMAL


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
    options = list(options_of(kind))
    flags = {word.split("=")[0].replace("_", "-") for word in words}
    entries: list[Any] = []
    for option in options:
        # A repeated flag would be added to what a file gives, so the file's value goes.
        default = option.default if option.flag in flags else given.get(option.name, option.default)
        entries.append((option.name, option.kind, field() if default is MISSING else field(default=default)))
    # Without the verbs' own checks, so that an argument can replace what they would refuse.
    flat = make_dataclass(name, entries, kw_only=True)
    message = io.StringIO()
    # A flag that a file sets can be taken back, so flags are pairs then.
    config = () if given else (tyro.conf.FlagCreatePairsOff,)
    try:
        with contextlib.redirect_stderr(message):
            parsed: Any = tyro.cli(flat, args=words, prog=f"secateur {name}", add_help=False, config=config)
    except SystemExit:
        raise UsageError(f"{_one_line(message.getvalue(), options)}; see secateur {name} --help") from None
    return build(kind, vars(parsed))


def _one_line(box: str, options: list[Option]) -> str:
    """Condense tyro's framed message to the error and what to give instead."""
    box = re.sub(r"\A[^\n]*\n *-{3,} *\n", "", box)  # the title, where the terminal has no line characters
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line and not re.match(r"[╭╰─]|-{3,}$", line))
    error = re.sub(r"\s*(For full helptext|Argument helptext|Got errors|Perhaps you meant).*", "", text)
    kinds = {option.flag: in_words(option.kind) for option in options}
    if unknown := re.match(r"Unrecognized options: ([^\s,]+)", error):
        what = "option" if unknown[1].startswith("-") else "place for the argument"
        return f"there is no {what} {unknown[1]}{did_you_mean(unknown[1], kinds)}"
    if error.startswith("Missing from "):
        missing = next(option for option in options if option.default is MISSING)
        return f"an argument is missing, {missing.name}: {clause(field_text(missing))}"
    for pattern, sentence in _REWRITTEN.items():
        error = re.sub(pattern, sentence, error)
    flag = error.split(" ")[0]
    return f"{error}; give {kinds[flag]}" if flag in kinds else error.rstrip(".")


_REWRITTEN = {
    r"^Error parsing (\S+): .*?('.*')\]?\.?$": r"\1 is \2",
    r"^invalid choice ('.*') for argument '(\S+)'.*": r"\2 is \1",
    r"^Missing value for argument '(\S+)'.*": r"\1 has no value",
}
"""Unclear messages of tyro 1.0, as regular expressions, and clear ones."""


def _print_error(sentence: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"secateur: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
