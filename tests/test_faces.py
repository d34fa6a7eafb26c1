"""A room's face offers its names, whatever was imported before."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
STUBS = sorted(path for name in ("agent", "envs") for path in (ROOT / name).rglob("__init__.pyi"))


def offered(stub: Path) -> list[tuple[str, str]]:
    """List the modules and the names of a face."""
    imports = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    return [(str(node.module), alias.name) for node in imports for alias in node.names]


@pytest.mark.parametrize("stub", STUBS, ids=[str(stub.parent.relative_to(ROOT)) for stub in STUBS])
def test_a_face_offers_its_names_also_where_a_module_is_called_alike(stub: Path) -> None:
    package = ".".join(("secateur", *stub.parent.relative_to(ROOT).parts))
    face = importlib.import_module(package)
    for module, name in offered(stub):
        importlib.import_module(f"{package}.{module}")
        assert not isinstance(getattr(face, name), ModuleType)
        assert name in dir(face)


def test_the_package_imports_no_torch() -> None:
    code = "import secateur, secateur.agent, secateur.envs.surgery, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_runs_as_a_module_and_tells_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "secateur", "--help"], check=True, capture_output=True, text=True
    )
    assert "prune" in done.stdout
    version = subprocess.run(
        [sys.executable, "-c", "import secateur; print(secateur.__version__)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert version.stdout.strip()[0].isdigit()
