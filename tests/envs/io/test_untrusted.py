"""What others wrote is loaded whole or refused in one line; no code of theirs runs, and no memory bursts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from secateur.agent.cli import main
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.envs.io.untrusted import read_yaml
from secateur.envs.models import load_weights
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from support import hostile
from support.networks import SizesByAttribute

SLACK = 12 * 2**20
"""Bytes that loading takes whatever the file: Python's own, and what it frees late."""


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load everything once, so that what is imported on the way counts nowhere."""
    folder = tmp_path_factory.mktemp("warm")
    hostile.save_agent(folder)
    hostile.save_run(folder)
    FrozenAgent.load(folder)
    load_pruned(SizesByAttribute, folder)
    hostile.saved(dict)(folder)
    load_weights(hostile.demo(), folder / "dense.pt")


def memory(field: str) -> int:
    """Give what this process has (VmRSS) or had at most (VmHWM) of the machine's memory, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


@contextlib.contextmanager
def taking_at_most(size: int) -> Iterator[None]:
    """Bound the memory that is taken; where the system cannot tell, only run."""
    peak = Path("/proc/self/clear_refs")
    try:
        peak.write_text("5")  # forget the peak so far
    except OSError:
        yield
        return
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before <= size


def refusal(load: Callable[[], object], folder: Path) -> str:
    """Give the one line of what is refused, and see that nothing else happens."""
    files = {path: path.stat().st_size for path in folder.rglob("*")}
    allowed = 2 * max(files.values(), default=0) + SLACK
    with taking_at_most(allowed), pytest.raises(ValueError, match=r"\w") as caught:
        load()
    line = str(caught.value)
    assert line.isprintable(), line
    assert len(line) < 600, line
    assert {path: path.stat().st_size for path in folder.rglob("*")} == files
    return line


@pytest.mark.parametrize("name", hostile.AGENTS)
def test_a_hostile_agent_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    damage, message = hostile.AGENTS[name]
    hostile.save_agent(tmp_path)
    damage(tmp_path)
    line = refusal(lambda: FrozenAgent.load(tmp_path), tmp_path)
    assert message in line
    assert str(tmp_path) in line


@pytest.mark.parametrize("name", hostile.RUNS)
def test_a_hostile_pruned_network_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    damage, message = hostile.RUNS[name]
    hostile.save_run(tmp_path)
    damage(tmp_path)
    assert message in refusal(lambda: load_pruned(SizesByAttribute, tmp_path), tmp_path)


@pytest.mark.parametrize("name", hostile.WEIGHTS)
def test_hostile_weights_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    damage, message = hostile.WEIGHTS[name]
    damage(tmp_path)
    model = hostile.demo()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert message in refusal(lambda: load_weights(model, tmp_path / "dense.pt"), tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", hostile.broken_tensors("dense.safetensors"))
def test_a_hostile_safetensors_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    damage, message = hostile.broken_tensors("dense.safetensors")[name]
    save_file(hostile.demo().state_dict(), tmp_path / "dense.safetensors")
    damage(tmp_path)
    line = refusal(lambda: load_weights(hostile.demo(), tmp_path / "dense.safetensors"), tmp_path)
    assert message in line


def test_the_formats_that_people_have_still_load(tmp_path: Path) -> None:
    wanted = hostile.demo().state_dict()
    for legacy in (False, True):
        hostile.saved(dict, legacy)(tmp_path)
        model = hostile.demo()
        torch.nn.init.zeros_(next(model.parameters()))
        load_weights(model, tmp_path / "dense.pt")
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("place", ["search.zip", "checkpoints/search.zip"])
def test_a_zip_of_stable_baselines_is_no_agent_and_that_is_said(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"PK\x03\x04")
    for given_ in (tmp_path, tmp_path / place):
        line = refusal(lambda given_=given_: FrozenAgent.load(given_), tmp_path)
        assert "a zip file of Stable-Baselines3 is not loaded as an agent" in line


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["put", "drop", "add", "flip"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)
TEXT_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["put", "drop", "add"]),
        st.sampled_from(b'{}[]",:0123456789-eE.\\ntaNI\xff\x00'),
    ),
    min_size=1,
    max_size=4,
)
many_times = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutate(content: bytes, edits: list[tuple[float, str, int]], within: int | None = None) -> bytes:
    """Change a few bytes of the first ``within``."""
    changed = bytearray(content)
    for place, kind, value in edits:
        at = int(place * (min(within or len(changed), len(changed)) - 1))
        if kind == "drop":
            del changed[at : at + 1 + value % 8]
        elif kind == "add":
            changed.insert(at, value)
        else:
            changed[at] = value if kind == "put" else changed[at] ^ 1 << value % 8
    return bytes(changed)


def attempt(load: Callable[[], Any], path: Path, content: bytes) -> Any:
    """Load what a file has become; None where it is refused, in one line."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return load()
    except ValueError as error:
        line = str(error)
    finally:
        path.write_bytes(before)
    assert line.isprintable(), line
    return None


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    hostile.save_agent(folder)
    return folder


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned")
    hostile.save_run(folder)
    return folder


def header_of(path: Path) -> int:
    """Give the length of a safetensors header, and a little of what follows."""
    return 16 + int.from_bytes(path.read_bytes()[:8], "little")


@many_times
@given(edits=TEXT_EDITS)
def test_no_change_of_an_agents_card_gives_anything_but_an_agent_or_one_line(
    agent: Path, tmp_path: Path, edits: list[tuple[float, str, int]]
) -> None:
    path = agent / "agent.json"
    found = attempt(lambda: FrozenAgent.load(agent), path, mutate(path.read_bytes(), edits))
    if found is not None:
        assert found.origin.isprintable()
        found.save(tmp_path)
        assert FrozenAgent.load(tmp_path).trained_on == found.trained_on


@many_times
@given(edits=EDITS, in_header=st.booleans())
def test_no_change_of_an_agents_weights_gives_anything_but_an_agent_or_one_line(
    agent: Path, edits: list[tuple[float, str, int]], in_header: bool
) -> None:
    path = agent / "agent.safetensors"
    content = mutate(path.read_bytes(), edits, header_of(path) if in_header else None)
    found = attempt(lambda: FrozenAgent.load(agent), path, content)
    if found is not None:
        assert all(bool(weight.isfinite().all()) for weight in found.scorer.parameters())
        assert {weight.dtype for weight in found.scorer.parameters()} == {torch.float32}


@many_times
@given(edits=TEXT_EDITS)
def test_no_change_of_a_plan_gives_anything_but_a_plan_that_fits_or_one_line(
    pruned: Path, edits: list[tuple[float, str, int]]
) -> None:
    path = pruned / "plan.json"
    content = mutate(path.read_bytes(), edits)
    if attempt(lambda: load_pruned(SizesByAttribute, pruned), path, content) is not None:
        plan = PruningPlan.from_json(content.decode())
        assert PruningPlan.from_json(plan.to_json()) == plan
        original = PruningPlan.from_json(path.read_text())
        for name, kept in plan.kept.items():
            assert len(kept) == len(original.kept[name])


@many_times
@given(edits=EDITS, in_header=st.booleans())
def test_no_change_of_pruned_weights_gives_anything_but_a_network_that_runs_or_one_line(
    pruned: Path, edits: list[tuple[float, str, int]], in_header: bool
) -> None:
    path = pruned / "model.safetensors"
    content = mutate(path.read_bytes(), edits, header_of(path) if in_header else None)
    model = attempt(lambda: load_pruned(SizesByAttribute, pruned), path, content)
    if model is not None:
        assert all(bool(weight.isfinite().all()) for weight in model.parameters())
        assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 2, 2, 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write what the command line rebuilds a pruned network from."""
    model = hostile.demo().eval()
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    plan = PruningPlan.dense(network)
    folder = tmp_path / "run"
    folder.mkdir()
    save_pruned(cut(model, network, plan), plan, folder)
    data = {"task": "classification", "data": "digits", "data_root": "data", "val_from": "train"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "demo", "seed": 0, "data": data}))
    report = {"model": "demo", "num_outputs": 10, "input_shape": [1, 8, 8]}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("verb", "damage", "message"),
    [
        ("evaluate", hostile.write("config.yaml", "[" * 3000), "config.yaml"),
        ("evaluate", hostile.write("config.yaml", BOMB), "aliases are not allowed"),
        ("evaluate", hostile.write("config.yaml", "!!python/object/apply:os.getcwd []"), "is not YAML"),
        ("evaluate", hostile.write("config.yaml", bytes(70_000)), "has 70,000 bytes"),
        ("evaluate", hostile.write("config.yaml", "3"), "has no options"),
        (
            "evaluate",
            hostile.write("config.yaml", "{model: demo, seed: -1, data: {data_root: d}}"),
            "the seed",
        ),
        (
            "evaluate",
            hostile.write("config.yaml", "{model: m, seed: 0, data: {data_root: d, data: [1]}}"),
            "data",
        ),
        (
            "evaluate",
            hostile.write("config.yaml", "{model: 'os:abort', seed: 0, data: {data_root: d}}"),
            "a part of Python",
        ),
        ("export", hostile.change_json("report.json", hostile.update(model="os:abort")), "a part of Python"),
        ("export", hostile.change_json("report.json", hostile.update(num_outputs=10**9)), "too large"),
        (
            "export",
            hostile.change_json("report.json", hostile.update(input_shape=[1, 10**9, 10**9])),
            "too large",
        ),
        ("export", hostile.change_json("report.json", hostile.update(input_shape="abc")), "whole numbers"),
        ("export", hostile.change_json("report.json", hostile.update(model=["demo"])), "to be a name"),
        ("export", hostile.write("report.json", "[" * 1000), "nested more than"),
        ("export", hostile.write("report.json", "{}"), "does not describe a pruned network"),
        ("export", hostile.change_layer(kept=[0, 0]), "without repetition"),
        (
            "export",
            hostile.change_tensors(
                "model.safetensors", lambda s: s | {"stem.1.bias": s["stem.1.bias"][:3].clone()}
            ),
            "do not fit together",
        ),
        ("export", hostile.broken_tensors("model.safetensors")["cut off in the data"][0], "cannot be read"),
    ],
)
def test_the_command_line_refuses_a_hostile_run_in_one_line(
    run: Path, verb: str, damage: hostile.Damage, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)
    assert main([verb, str(run)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.isprintable(), error
    assert message in error


def test_the_command_line_refuses_hostile_agents_and_weights_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile.save_agent(tmp_path)
    hostile.AGENTS["undefined"][0](tmp_path)
    hostile.WEIGHTS["a checkpoint that writes a file"][0](tmp_path)
    for words in (["--agent", "."], ["--weights", "dense.pt"]):
        assert main(["prune", "demo", *words]) == 2
        *_, error = capsys.readouterr().err.splitlines()
        assert error.startswith("secateur: ")
        assert error.isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"agent.json", "agent.safetensors", "dense.pt"}


def test_yaml_of_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = {"model": "demo", "data": {"image_size": None, "flip": True}, "targets": [0.5, 1]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert read_yaml(tmp_path / "config.yaml") == content
