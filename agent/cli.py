"""The command line: parse it, run a verb of :mod:`.commands`, and report its errors in one line."""

import contextlib
import io
import os
import re
import sys
import traceback
import warnings
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import docstring_parser
import tyro

from ..envs.io.suggestions import did_you_mean
from .commands import Evaluate, Verb
from .commands.process import keep_freed_memory
from .run.progress import Verbosity, verbosity

DESCRIPTION = (
    "Prune the filters of a trained CNN with a reinforcement-learning agent. "
    "Options of all commands, at any position: --quiet prints only the result, --verbose every update and "
    "epoch, --debug the traceback of an error."
)

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
    """
    for verb in get_args(Verb):
        _join_help_lines(verb)
    parsed = _parse(
        words,
        Verb,
        prog="secateur",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    if isinstance(parsed, Evaluate) and parsed.is_run:
        # Once more, now that the run is known. A flag that it had set may be given again, so flags are pairs.
        config = (tyro.conf.OmitArgPrefixes,)
        parsed = _parse(words[1:], Evaluate, default=parsed.defaults(), config=config)
    return parsed


def _parse(words: list[str], kind: Any, **settings: Any) -> Any:
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(kind, args=words, **settings)
    except SystemExit as stop:
        if stop.code in (0, None):  # --help was given
            raise
        raise UsageError(_one_line(message.getvalue())) from None


def _join_help_lines(kind: type) -> None:
    """Join the lines of field docstrings, also in nested dataclasses, so that tyro wraps them as one text.

    Otherwise tyro 1.0 wraps each line separately, as the second one is indented.
    """
    texts = {text.arg_name: text.description for text in docstring_parser.parse_from_object(kind).params}
    for option in fields(kind):
        if text := texts.get(option.name):
            option.metadata = MappingProxyType({**option.metadata, "help": " ".join(text.split())})
    for hint in get_type_hints(kind).values():
        if isinstance(hint, type) and is_dataclass(hint):
            _join_help_lines(hint)


def _one_line(box: str) -> str:
    """Condense tyro's framed message to the error and the nearest option, if tyro names one."""
    box = re.sub(r"\x1b\[[\d;]*m", "", box)  # colours, on a terminal
    box = re.sub(r"\A[^\n]*\n *-{3,} *\n", "", box)  # the title, where the terminal has no line characters
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line and not re.match(r"[╭╰─]|-{3,}$", line))
    option = re.search(r"Argument helptext: --\S+ (?:\{None\}\|)?\{?([A-Z ]*[A-Z])\b", text)
    text = re.sub(r"\s*(For full helptext|Argument helptext|Got errors).*", "", text)
    error, _, similar = text.partition("Perhaps you meant:")
    for pattern, sentence in _REWRITTEN.items():
        error = re.sub(pattern, sentence, error)
    if option and error.startswith("--"):
        error += f"; give {_TYPES.get(option[1], option[1])}"
    given = re.search(r"--[\w-]+", error)
    others = {name for name in re.findall(r"--[\w-]+", similar) if given is None or name != given[0]}
    hint = did_you_mean(given[0] if given else "", sorted(others)).replace("'", "").replace(",", ";", 1)
    return f"{error.strip().rstrip('.')}{hint}; see secateur --help"


_REWRITTEN = {
    r"^Error parsing (--\S+): .*?('.*')\]?\.?$": r"\1 is \2",
    r"^Missing value for argument '(\S+)'.*": r"\1 has no value",
    r"^Missing from secateur (\w+): \S+ (.*) \(required\)": r"an argument of \1 is missing: \2",
    r"^Unrecognized options: ([^,\s]+).* Available subcommands: (.*)": r"there is no command \1; give \2",
    r"^Unrecognized or misplaced options: (-[^,\s=]*).*": r"this command has no option \1",
    r"^Unrecognized options: (-[^,\s=]*).*": r"there is no option \1",
    r"^Unrecognized options: ([^,\s]+).*": r"the argument \1 is one too many",
    r"^invalid choice ('.*') for argument '(\S+)'. Expected one of \((.*)\)": r"\2 is \1; give \3",
    r"^Expected one of \{(.*)\}": r"no command was given; give \1",
}
"""Unclear messages of tyro 1.0, as regular expressions, and clear ones."""

_TYPES = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "RATIO": "a number such as 0.5 or 50%",
    "PERCENT": "a number of percentage points such as 2",
    "INT INT INT": "three whole numbers",
}


def _print_error(sentence: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"secateur: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
