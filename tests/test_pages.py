"""What the README names exists: modules, imports, arguments, commands, options and files."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator

import pytest

import secateur.agent
import secateur.envs.surgery
from secateur.agent.cli import main
from support.readme import README

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
ROOMS = (secateur.agent, secateur.envs.surgery)
PUBLIC = {name: getattr(room, name) for room in ROOMS for name in dir(room)}


def imports() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("secateur"):
                for alias in node.names:
                    yield str(node.module), alias.name


def calls() -> Iterator[tuple[str, str, str]]:
    """List the keyword arguments of calls to public classes and functions, in blocks and in prose."""
    for code in (*BLOCKS, *CODE):
        try:
            tree = ast.parse(code)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PUBLIC:
                for keyword in node.keywords:
                    yield ast.unparse(node), node.func.id, str(keyword.arg)


def command_lines() -> Iterator[list[str]]:
    """List the words of the ``secateur`` commands in the console blocks."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                for command in re.split(r"&&|;", line[2:]):
                    words = shlex.split(command, comments=True)
                    if words[:1] == ["secateur"]:
                        yield words[1:]


@pytest.mark.parametrize(("module", "name"), sorted(set(imports())))
def test_imports_work(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("dotted", sorted({c for c in CODE if re.fullmatch(r"secateur(\.\w+)+", c)}))
def test_dotted_names_exist(dotted: str) -> None:
    package, _, name = dotted.rpartition(".")
    if not hasattr(importlib.import_module(package), name):
        importlib.import_module(dotted)


@pytest.mark.parametrize(("call", "function", "keyword"), sorted(set(calls())))
def test_arguments_exist(call: str, function: str, keyword: str) -> None:
    assert keyword in inspect.signature(PUBLIC[function]).parameters, call


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#]+)", PROSE))))
def test_linked_files_exist(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("command", sorted({words[0] for words in command_lines()}))
def test_options_of_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help-all"]) == 0
    offered = capsys.readouterr().out
    for words in command_lines():
        if words[0] == command:
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                assert re.search(rf"{option}\b", offered), f"secateur {shlex.join(words)}"
