"""Help texts of options, from the docstrings below the fields of dataclasses."""

import ast
import contextlib
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import get_type_hints


def let_flow(kind: type) -> None:
    """Let tyro wrap the docstrings of a dataclass's fields, and of those it holds, to the terminal.

    By itself tyro 1.0 wraps each of their lines, as the second one is indented.
    """
    with contextlib.suppress(OSError):  # without sources tyro has no help texts either
        texts = _docstrings(inspect.getsource(kind))
        for option in fields(kind):
            if option.name in texts:
                option.metadata = MappingProxyType({"help": texts[option.name]})
    for hint in get_type_hints(kind).values():
        if isinstance(hint, type) and is_dataclass(hint):
            let_flow(hint)


def _docstrings(source: str) -> dict[str, str]:
    """Find the docstrings of fields in the source of a class, each as one line."""
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for declared, text in pairwise(definition.body):
        match declared, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                found[name] = " ".join(docstring.split())
    return found
