"""The pages of ``--help``: everyday options first, then the others by group."""

import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import docstring_parser
import tyro
from rich.console import Console

from ..run.flat_options import Option, options_of

_WIDEST, _COLUMN = 100, 27
"""Largest width of a page, and the column where the texts of options begin."""

_PLACEHOLDERS = {int: "N", float: "X", str: "NAME", Path: "PATH"}

_FOR_ALL = {
    "--config FILE": "Read options from a YAML file of the flags' names, such as the config.yaml of a run; "
    "flags win",
    "--quiet, --verbose": "Print only the result, or every update and epoch",
    "--debug": "Print the traceback of an error",
    "--help, --help-all": "Show the most important options, or all in full",
}
"""Options of all commands."""


class _Heading(str):
    """A line in bold."""


@dataclass(frozen=True)
class _Entry:
    """An option on the page."""

    option: Option
    text: str

    @property
    def is_positional(self) -> bool:
        return tyro.conf.Positional in _markers(self.option)

    @property
    def name(self) -> str:
        """The flag with a placeholder for its value."""
        placeholder = _placeholder(self.option.kind)
        if self.is_positional:
            return self.option.name.upper() + ("..." if placeholder.endswith("...") else "")
        return f"{self.option.flag} {placeholder}".rstrip()

    @property
    def default(self) -> str:
        """The default in words; "" if the text says it, or the option is off without."""
        value = self.option.default
        if value is MISSING or value is None or value is False or value == ():
            return ""
        values = value if isinstance(value, tuple) else (value,)
        shown = (f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in values)
        return f" (default {' '.join(shown)})"

    def lines(self, width: int, *, in_full: bool) -> list[str]:
        """The option's lines on the page, with its whole text or as much as fits one line.

        A default may need a second line.
        """
        text = self.text if in_full else clause(self.text)
        text = text.removesuffix(".") if self.default else text
        if not in_full:
            room = width - _COLUMN
            room += max(room - len(self.default) - 5, 0) if self.default else 0
            text = textwrap.shorten(text, room, placeholder=" …")
        return _columns(self.name, text + self.default, width)


def verb_page(verb: str, kind: Any, width: int, *, in_full: bool) -> Iterator[str]:
    """Yield the lines of a verb's page.

    Args:
        verb: Name of the verb.
        kind: Its class, a dataclass with its everyday options and an example as class variables.
        width: Width of the page, characters.
        in_full: Whether to show all options in full. Otherwise the everyday options are in full, the others
            in short, and those of advanced groups by name only.
    """
    texts: dict[type, dict[str, str]] = {}
    entries = {}
    for option in options_of(kind):
        if tyro.conf.Suppress in _markers(option):  # programs set it, not users
            continue
        known = texts.setdefault(option.group, _field_texts(option.group))
        entries[option.name] = _Entry(option, known.get(option.name, ""))
    positional = [entry for entry in entries.values() if entry.is_positional]
    words = [e.name if e.option.default is MISSING else f"[{e.name}]" for e in positional]
    yield f"usage: {' '.join(['secateur', verb, *words, '[options]'])}"
    yield ""
    yield from textwrap.wrap(_description(kind), width)
    yield ""
    yield from (f"  $ {line}" for line in kind.example.splitlines())
    everyday = [entries[name] for name in kind.everyday]
    yield from _section("Options", everyday, width, in_full=True)
    groups: dict[type, list[_Entry]] = {}
    for entry in entries.values():
        if entry not in everyday:
            groups.setdefault(entry.option.group, []).append(entry)
    is_after_names = False
    for group, members in groups.items():
        title = "More options" if group is kind else _title(group)
        if in_full or not vars(group).get("advanced", False):
            yield from _section(title, members, width, in_full=in_full)
            is_after_names = False
        else:
            yield from [] if is_after_names else [""]
            yield from _names_alone(title, members, width)
            is_after_names = True
    yield from _for_all(width)


def overview(verbs: dict[str, type], width: int) -> Iterator[str]:
    """Yield the lines of the program's own page.

    Args:
        verbs: The verbs by name.
        width: Width of the page, characters.
    """
    yield "usage: secateur COMMAND [options]"
    yield ""
    yield "Prune the filters of a trained CNN with a reinforcement-learning agent."
    yield ""
    yield from ("  $ secateur prune", "  $ secateur prune resnet20 --weights resnet20.pt --data cifar10")
    yield from ("", _Heading("Commands"))
    for name, kind in verbs.items():
        yield f"  {name:9} {clause(_description(kind))}"
    yield from _for_all(width)
    yield from ("", "Options of a command: secateur COMMAND --help; the version: secateur --version")


def print_page(verbs: dict[str, type], words: list[str]) -> None:
    """Print the page of the first verb among the words, else that of the program.

    Args:
        verbs: The verbs by name.
        words: Arguments of the command line, with ``--help``, ``-h`` or ``--help-all``.
    """
    page = Console(file=sys.stdout, highlight=False)
    width = min(page.width, _WIDEST)
    verb = next((word for word in words if word in verbs), None)
    in_full = "--help-all" in words
    lines = verb_page(verb, verbs[verb], width, in_full=in_full) if verb else overview(verbs, width)
    for line in lines:
        style = "bold" if isinstance(line, _Heading) else None
        page.print(line, style=style, markup=False, soft_wrap=True)


def field_text(option: Option) -> str:
    """Return the text of an option: the docstring under its field."""
    return _field_texts(option.group).get(option.name, "")


def clause(text: str) -> str:
    """Return the first clause of a text, without a full stop."""
    return text.split("; ")[0].split(". ")[0].removesuffix(".")


def _section(title: str, entries: list[_Entry], width: int, *, in_full: bool) -> Iterator[str]:
    yield from ("", _Heading(title))
    for entry in entries:
        yield from entry.lines(width, in_full=in_full)


def _names_alone(title: str, entries: list[_Entry], width: int) -> Iterator[str]:
    """Yield the flags of a group without their texts, on the line of its title if there is room."""
    flags = ", ".join(entry.option.flag for entry in entries)
    heading = f"{title} (see --help-all)"
    if len(heading) + len(flags) + 2 <= width:
        yield _Heading(f"{heading}: {flags}")
        return
    yield _Heading(heading)
    yield from textwrap.wrap(flags, width, initial_indent="  ", subsequent_indent="  ",
                             break_on_hyphens=False)  # fmt: skip


def _for_all(width: int) -> Iterator[str]:
    yield from ("", _Heading("Options of all commands"))
    for name, text in _FOR_ALL.items():
        yield from _columns(name, text, width)


def _columns(name: str, text: str, width: int) -> list[str]:
    """Put a name to the left of its text, or above it if it is too long."""
    lines = textwrap.wrap(text, width - _COLUMN, break_on_hyphens=False, break_long_words=False)
    first = f"  {name}"
    above = [first] if len(first) + 2 > _COLUMN else []
    margins = [" " * _COLUMN if above else first.ljust(_COLUMN), *[" " * _COLUMN] * len(lines)]
    return above + [margin + line for margin, line in zip(margins, lines, strict=False)]


def _markers(option: Option) -> tuple[Any, ...]:
    """Return tyro's markers of an option."""
    return getattr(option.kind, "__metadata__", ())


def _placeholder(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        is_repeated = tyro.conf.UseAppendAction in args
        return "VALUE" if is_repeated else _placeholder(args[0])
    if origin in (Union, types.UnionType):
        return _placeholder(next(each for each in args if each is not types.NoneType))
    if origin is Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        one = _placeholder(args[0])
        return f"{one}..." if args[-1] is ... else " ".join([one] * len(args))
    return "" if kind is bool else _PLACEHOLDERS.get(kind, "VALUE")


def _field_texts(kind: type) -> dict[str, str]:
    """Return the docstrings under the fields of a dataclass, each as one line."""
    found = docstring_parser.parse_from_object(kind).params
    return {text.arg_name: " ".join((text.description or "").replace("``", "").split()) for text in found}


def _description(kind: type) -> str:
    return " ".join(f"{kind.__doc__}".split())


def _title(group: type) -> str:
    return (group.__doc__ or group.__name__).strip().splitlines()[0].removesuffix(".")
