"""The command line: the verbs of :mod:`.commands`, and what becomes of their errors."""

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

from .commands import Evaluate, Verb
from .commands.process import keep_freed_memory
from .run.progress import Verbosity, verbosity

DESCRIPTION = (
    "Prune the filters of a trained CNN with a reinforcement-learning agent. "
    "Anywhere on the line: --quiet says nothing but the result, --verbose tells of every update and epoch, "
    "with --debug an error shows its traceback."
)

_VERBOSITY = {"--quiet": Verbosity.QUIET, "--verbose": Verbosity.VERBOSE}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: What follows the program's name; None takes the process's own.

    Returns:
        0; 2 where the input was wrong or memory ran out: then one line on stderr says what and what to do;
        130 where it was stopped, and 141 where nobody reads its output any more. ``--debug`` shows the
        traceback too; ``--quiet`` and ``--verbose`` say how much else is told.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    keep_freed_memory()
    try:
        verb = parse([word for word in given if word not in ("--debug", *_VERBOSITY)])
        with verbosity(_verbosity(given)), warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            verb.run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return 141  # 128 and SIGPIPE, as of any other command
    except UsageError as error:
        return _refuse(str(error), debug)
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        return _refuse(str(error), debug)
    except (MemoryError, RuntimeError) as error:
        from ..envs.io.memory import is_out_of_memory, out_of_memory_line  # here, as --help does without envs

        if not is_out_of_memory(error):
            raise
        return _refuse(out_of_memory_line(error), debug)
    except KeyboardInterrupt as wish:
        advice = f"; go on with: {wish}" if str(wish) else ""
        print(f"secateur: stopped{advice}", file=sys.stderr)
        return 130
    return 0


def _verbosity(words: list[str]) -> Verbosity:
    wishes = [level for word, level in _VERBOSITY.items() if word in words]
    if len(wishes) > 1:
        raise UsageError("--quiet and --verbose exclude each other; give one of them")
    return wishes[0] if wishes else Verbosity.NORMAL


class UsageError(Exception):
    """The command line is not one that a verb understands."""


def parse(words: list[str]) -> Verb:
    """Turn words into a verb with its options.

    Raises:
        UsageError: If they are none; the message is one line.
    """
    for verb in get_args(Verb):
        _let_flow(verb)
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
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=words, **settings)
    except SystemExit as stop:
        if stop.code in (0, None):  # help was asked for
            raise
        raise UsageError(_one_line(complaint.getvalue())) from None


def _let_flow(kind: type) -> None:
    """Let tyro wrap the docstrings of a dataclass's fields, and of those it holds, to the terminal.

    By itself tyro 1.0 wraps each of their lines, as the second one is indented.
    """
    texts = {text.arg_name: text.description for text in docstring_parser.parse_from_object(kind).params}
    for option in fields(kind):
        if text := texts.get(option.name):
            option.metadata = MappingProxyType({**option.metadata, "help": " ".join(text.split())})
    for hint in get_type_hints(kind).values():
        if isinstance(hint, type) and is_dataclass(hint):
            _let_flow(hint)


def _one_line(box: str) -> str:
    """Condense tyro's framed message: what was wrong, and the nearest option if it knows one."""
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line and not re.match(r"[╭╰─]", line))
    text = re.sub(r"\s*(For full helptext|Argument helptext|Got errors).*", "", text)
    wrong, _, meant = text.partition("Perhaps you meant:")
    nearest = re.search(r"--[\w-]+", meant)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{wrong.strip().rstrip('.')}{hint}; see secateur --help"


def _refuse(sentence: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"secateur: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
