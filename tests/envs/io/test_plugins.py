"""Importing things of the user's own leaves Python's search path as the user has it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from secateur.envs.io.plugins import imported_module, nearest_or_all


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return str(Path.cwd())


def write(name: str, code: str = "") -> None:
    Path(f"{name}.py").write_text(code)
    sys.modules.pop(name, None)


def test_the_current_directory_can_be_imported_from_only_inside(here: str) -> None:
    write("secateur_plugin_plain", "thing = 3")
    before = list(sys.path)
    with imported_module("secateur_plugin_plain:thing") as module:
        assert module.thing == 3
        assert sys.path == [*before, here]
    assert sys.path == before


def test_an_entry_of_the_users_own_keeps_its_place(here: str) -> None:
    write("secateur_plugin_first")
    sys.path.insert(0, here)
    before = list(sys.path)
    with imported_module("secateur_plugin_first:thing"):
        pass
    assert sys.path == before


def test_what_the_imported_module_does_to_the_path_stays(here: str) -> None:
    write("secateur_plugin_adds", "import os, sys\nsys.path.insert(0, os.getcwd())")
    before = list(sys.path)
    with imported_module("secateur_plugin_adds:thing"):
        pass
    assert sys.path == [here, *before]


def test_a_module_that_makes_a_new_path_is_no_trouble(here: str) -> None:
    write("secateur_plugin_replaces", "import sys\nsys.path = sys.path[:-1]")
    before = list(sys.path)
    with imported_module("secateur_plugin_replaces:thing"):
        pass
    assert sys.path == before


def test_an_unknown_name_is_answered_with_the_nearest_or_with_what_the_module_has_of_its_own() -> None:
    module = ModuleType("mine")
    exec("from math import sqrt\ndef make(): ...\ndef _hidden(): ...\nclass Data: ...\n", vars(module))
    assert nearest_or_all(module, "mak") == ", did you mean 'make'?"
    assert nearest_or_all(module, "zzz") == "; it has make, Data"
    exec("\n".join(f"def f{k}(): ..." for k in range(9)), vars(module))
    assert nearest_or_all(module, "zzz") == "; it has make, Data, f0, f1, f2, ..."
    assert nearest_or_all(ModuleType("empty"), "zzz") == ""
