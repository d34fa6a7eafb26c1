"""What the pages say is true: blocks run, and what they name exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import secateur
import secateur.agent
import secateur.envs.surgery
from secateur.agent.cli import main, parse
from secateur.agent.deciders.baselines import heuristics
from secateur.agent.deciders.finalists import ENTRIES
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.run.flat_options import options_of
from secateur.envs.models.registry import _OWN as BUILT_IN
from secateur.envs.tasks.own.source_task import SourceTask
from support.pages import PAGES, README, ROOT, Block, blocks, prose

_SLOW_GUIDES = ("compare", "deploy", "options-file", "own-data", "runs", "segmentation", "several-sizes")
SLOW = {f"docs/how-to/{name}.md" for name in _SLOW_GUIDES}
"""Pages whose blocks take more than two seconds; the README's do, too, but are the most important ones."""

NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(block, words) for block in BLOCKS for words in block.commands]
CODE = [code for page in PAGES for code in re.findall(r"`([^`\n]+)`", prose(page))]
ROOMS = (secateur.agent, secateur.envs.surgery, secateur)
PUBLIC = {name: getattr(room, name) for room in ROOMS for name in dir(room)}
OPTIONS = {option.name for kind in (PruningConfig, DataConfig) for option in options_of(kind)}


def imports() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block.code if block.language == "python" else "")):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("secateur"):
                for alias in node.names:
                    yield str(node.module), alias.name


def calls() -> Iterator[tuple[str, str, str]]:
    """List the keyword arguments of calls to public classes and functions, in blocks and in prose."""
    for code in (*(block.code for block in BLOCKS if block.language == "python"), *CODE):
        try:
            tree = ast.parse(code)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := _public(node.func)):
                for keyword in node.keywords:
                    if keyword.arg is not None:
                        yield ast.unparse(node), name, keyword.arg


def _public(function: ast.expr) -> str | None:
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "secateur":
        return function.attr
    return function.id if isinstance(function, ast.Name) and function.id in PUBLIC else None


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_each_block_is_run_or_says_why_not(page: Path) -> None:
    fences = re.findall(r"^```(?:python|console|yaml)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len([block for block in blocks(page) if block.language != "text"]) == len(fences)
    for block in blocks(page):
        others = [words for words in block.commands if words[0] != "secateur"]
        assert block.not_run or not others, f"{block}: say why this is not run"
        assert block.language != "yaml" or block.file, f"{block}: say which file this is"


@pytest.mark.parametrize(
    ("block", "words"),
    [(block, words[1:]) for block, words in COMMANDS if words[0] == "secateur" and block.not_run],
    ids=lambda value: str(value) if isinstance(value, Block) else value[0],
)
def test_commands_that_are_not_run_are_understood(block: Block, words: list[str]) -> None:
    parse(words)


def test_scripts_and_their_options_exist() -> None:
    scripts = 0
    for _, words in COMMANDS:
        if "python" in words and (script := words[words.index("python") + 1]).endswith(".py"):
            path = next(p for p in (ROOT / script, ROOT / "benchmarks" / script) if p.is_file())
            flags = [word.split("=")[0] for word in words if word.startswith("--")]
            source = path.read_text(encoding="utf-8")
            for name in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE):
                if (neighbour := path.with_name(f"{name}.py")).is_file():  # may declare options, too
                    source += neighbour.read_text(encoding="utf-8")
            assert [flag for flag in flags if f'"{flag}"' not in source] == [], shlex.join(words)
            scripts += 1
    assert scripts > 5


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.user import make_user

    folder = tmp_path_factory.mktemp("pages") / "user"
    make_user(folder)
    return folder


def marked(page: Path) -> object:
    slow = [pytest.mark.slow] if NAMES[page] in SLOW else []
    return pytest.param(page, id=NAMES[page], marks=slow)


@pytest.mark.parametrize("page", [marked(p) for p in PAGES if any(b.not_run is None for b in blocks(p))])
def test_the_blocks_of_a_page_run_in_order(
    page: Path,
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(user, tmp_path / "user")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    _forget_mypackage()
    namespace: dict[str, object] = {"__name__": "__page__"}
    said: set[str] = set()
    for block in blocks(page):
        if block.language == "text":
            assert [line for line in _lines(block.code) if line not in {"...", *said}] == [], block
        elif block.not_run is None:
            _run(block, namespace)
            said = said | {*_lines("\n".join(capfd.readouterr()))}
    _forget_mypackage()


def _lines(text: str) -> list[str]:
    """Give the lines of a text, with any number of seconds."""
    return [re.sub(r"about \d+ s", "about 1 s", line.rstrip()) for line in text.splitlines()]


def _forget_mypackage() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _run(block: Block, namespace: dict[str, object]) -> None:
    if block.file is not None:
        path = Path(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code)
        return
    for words in block.commands:
        assert main([*words[1:], "--debug"]) == 0, f"{block}: {shlex.join(words)}"
    if block.language == "python":
        exec(compile(block.code, str(block), "exec"), namespace)


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
    parameters = inspect.signature(PUBLIC[function]).parameters
    known = {*parameters, *(OPTIONS if "options" in parameters else ())}
    if "settings" in parameters:  # those of the class above
        known |= {*inspect.signature(SourceTask).parameters}
    assert keyword in known, call


@pytest.mark.parametrize(
    ("page", "target"),
    sorted({(p, t) for p in PAGES for t in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose(p))}),
    ids=str,
)
def test_linked_files_exist(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


def test_the_page_on_the_agent_says_what_efforts_measure() -> None:
    page = (ROOT / "docs" / "concepts" / "agent.md").read_text(encoding="utf-8")
    normal, thorough = (PruningConfig(effort=effort).learning for effort in ("normal", "thorough"))
    assert f"at most {normal.evaluations} candidates" in page
    assert f"{thorough.evaluations:,} candidates" in page
    updates = normal.episodes_per_update, thorough.episodes_per_update
    assert "from {} candidates an update with normal effort, {} with thorough".format(*updates) in page


def test_pages_say_who_is_compared() -> None:
    quick, others = ENTRIES["quick"], [ENTRIES[effort] for effort in ("normal", "thorough")]
    readme = " ".join(README.read_text(encoding="utf-8").split())
    assert (quick.own, quick.named + quick.others) == (1, 3)
    assert f"the agent and {len(heuristics())} heuristics propose, and the agent's best and three" in readme
    page = (ROOT / "docs" / "concepts" / "agent.md").read_text(encoding="utf-8")
    assert (
        quick.own == 1 < min(entries.own for entries in others)
    )  # the one without chance needs room for two
    assert "with `normal` and `thorough` the one that it makes without chance always does" in page
    devices = (ROOT / "docs" / "how-to" / "many-devices.md").read_text(encoding="utf-8")
    proposals = FrozenAgent.deterministic + FrozenAgent.samples + len(heuristics())
    assert f"all proposals together, {proposals} with those of the" in " ".join(devices.split())


def test_the_page_on_networks_names_those_that_are_built_in() -> None:
    page = (ROOT / "docs" / "how-to" / "networks.md").read_text(encoding="utf-8")
    missing = [name for name in BUILT_IN if f"`{name}`" not in page]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
