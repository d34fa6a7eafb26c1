"""The directive ``secateur-options``: a command's options, from the dataclasses that ``--help`` reads."""

import inspect
from dataclasses import MISSING
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tyro.conf import Positional, Suppress

from secateur.agent.cli import VERBS
from secateur.agent.commands.help_page import field_text
from secateur.agent.run.flat_options import Option, in_words, options_of


class SecateurOptions(SphinxDirective):
    """Write a command's description, its example, and a list of all its options by group."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the command that the argument names."""
        kind: Any = VERBS[self.arguments[0]]
        description = " ".join(f"{kind.__doc__}".split())
        found: list[nodes.Node] = [nodes.paragraph(text=description)]
        example = "\n".join(f"$ {line}" for line in kind.example.splitlines())
        found.append(nodes.literal_block(example, example, language="console"))
        groups: dict[str, list[Option]] = {"Everyday options": []}
        self.env.note_dependency(inspect.getfile(kind))
        for option in options_of(kind):
            self.env.note_dependency(inspect.getfile(option.group))
            if Suppress in _markers(option):  # programs set it, not users
                continue
            is_everyday = option.name in kind.everyday
            title = "Everyday options" if is_everyday else _title(kind, option.group)
            groups.setdefault(title, []).append(option)
        groups["Everyday options"].sort(key=lambda option: kind.everyday.index(option.name))
        for title, options in groups.items():
            found.append(nodes.rubric(text=title))
            found.append(nodes.definition_list("", *map(_item, options)))
        return found


def _title(kind: type, group: type) -> str:
    if group is kind:
        return "More options"
    return (group.__doc__ or group.__name__).strip().splitlines()[0].removesuffix(".")


def _item(option: Option) -> nodes.definition_list_item:
    name = option.name.upper() if Positional in _markers(option) else option.flag
    term = nodes.term("", "", nodes.literal(text=name), nodes.Text(f" {_values(option)}".rstrip()))
    text = nodes.definition("", nodes.paragraph(text=field_text(option)), classes=["option-text"])
    return nodes.definition_list_item("", term, text)


def _markers(option: Option) -> tuple[object, ...]:
    return getattr(option.kind, "__metadata__", ())


def _values(option: Option) -> str:
    """Say what an option takes, and its default."""
    words = in_words(option.kind)
    value = option.default
    if value is MISSING:
        return f"({words}, required)"
    if value is None or value == () or value is False:
        return f"({words})"
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"({words}, default {shown})"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("secateur-options", SecateurOptions)
    return {"parallel_read_safe": True}
