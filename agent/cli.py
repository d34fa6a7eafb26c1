"""The command line: parse it, run a verb of :mod:`.commands`, and report its errors in one line."""

import os
import sys
import traceback
import warnings
from importlib.metadata import version

from ..envs.io.memory import is_out_of_memory, keep_freed_memory, out_of_memory_line
from ..envs.io.user_code import users_line
from ..envs.modules.process_group import FailedElsewhereError, LostRankError, joined
from .commands.help_page import print_page
from .commands.parsing import VERBS, UsageError, parse
from .commands.process import check_shared, one_line_of_threads, one_stdout
from .run.progress import Verbosity, verbosity
from .run.wording import wording

_REFUSALS = (ValueError, TypeError, FloatingPointError, OSError, LostRankError)
_HELP = ("-h", "--help", "--help-all")
_VERBOSITY = {"--quiet": Verbosity.QUIET, "--verbose": Verbosity.VERBOSE}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: Arguments after the program's name; None takes those of the process.

    Returns:
        The exit status: 0 for success; 2 if the input is wrong or the memory runs out, with one line on
        stderr about the cause and the remedy; 130 if the run is stopped; 141 if the reader closes the output.
        ``--debug`` also prints the traceback; ``--quiet`` and ``--verbose`` set the level of detail. Of
        several processes that torchrun has started, one prints.
    """
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    keep_freed_memory()
    try:
        with joined(), one_stdout(), one_line_of_threads(), wording(str):
            _run(words, debug)
            sys.stdout.flush()
    except FailedElsewhereError as failure:
        return 130 if isinstance(failure.__cause__, KeyboardInterrupt) else 2
    except BrokenPipeError:  # the reader, such as `head`, has closed the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python prints an error at exit
        return 141  # 128 + SIGPIPE, as other commands
    except UsageError as error:
        return _print_error(str(error), debug)
    except KeyboardInterrupt as stop:
        advice = f"; resume with: {stop}" if str(stop) else ""
        print(f"secateur: stopped{advice}", file=sys.stderr)
        return 130
    except BaseException as error:
        if (sentence := _explained(error)) is None:
            raise
        return _print_error("; ".join([sentence, *getattr(error, "__notes__", ())]), debug)
    return 0


def _run(words: list[str], debug: bool) -> None:
    if any(word in _HELP for word in words):
        print_page(VERBS, words)
        return
    if words[:1] == ["--version"]:
        print(f"secateur {version('secateur')}")
        return
    verb = parse([word for word in words if word not in ("--debug", *_VERBOSITY)])
    check_shared(verb)
    with verbosity(_verbosity(words)), warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        verb.run()


def _explained(error: BaseException) -> str | None:
    """Explain a refusal, memory that ran out, or an error of the user's code; None for a defect."""
    if is_out_of_memory(error):
        return out_of_memory_line(error)
    if (line := users_line(error)) is not None:
        return f"{line}; --debug shows where"
    return str(error) if isinstance(error, _REFUSALS) else None


def _verbosity(words: list[str]) -> Verbosity:
    levels = [level for word, level in _VERBOSITY.items() if word in words]
    if len(levels) > 1:
        raise UsageError("--quiet and --verbose exclude each other; give one of them")
    return levels[0] if levels else Verbosity.NORMAL


def _print_error(sentence: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"secateur: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
