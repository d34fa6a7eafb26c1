"""Tensors with many zeros are stored packed, and files that claim to be are not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from secateur.envs.io.sparse_tensors import FLOATS, SHAPES, pack, unpack
from secateur.envs.io.tensor_files import read_tensors, write_tensors
from secateur.envs.sparsity import apply_masks, magnitude_masks, random_masks
from secateur.envs.surgery import PruningPlan, load_pruned, save_pruned
from secateur.envs.surgery.cutting import file_bytes

FILE = "model.safetensors"
many_times = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _sparse(shape: tuple[int, ...], share: float, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(shape) * (torch.rand(shape) < share)).to(dtype)


@many_times
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.floats(0, 1),
    st.sampled_from([*FLOATS, torch.int64]),
)
def test_what_is_packed_comes_back_equal_and_is_smaller(
    tmp_path: Path, shape: list[int], share: float, dtype: torch.dtype
) -> None:
    tensors = {"a": _sparse(tuple(shape), share, dtype), "b": torch.ones(3)}
    write_tensors(tmp_path / FILE, tensors, packed=True)
    read, _ = read_tensors(tmp_path / FILE)
    assert set(read) == {"a", "b"}
    assert read["a"].dtype == dtype
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    write_tensors(tmp_path / "plain.safetensors", tensors)
    assert (tmp_path / FILE).stat().st_size <= (tmp_path / "plain.safetensors").stat().st_size


def test_only_what_becomes_smaller_by_a_quarter_is_packed() -> None:
    tensors = {
        "dense": _sparse((64, 64), 1.0),
        "half": _sparse((64, 64), 0.5),
        "bias": torch.zeros(4096),
        "small": torch.zeros(4, 4),
        "counts": torch.zeros(64, 64, dtype=torch.int64),
    }
    packed, metadata = pack(tensors)
    assert set(packed) == {"dense", "half.values", "half.bits", "bias", "small", "counts"}
    assert json.loads(metadata[SHAPES]) == {"half": [64, 64]}
    assert pack({"dense": tensors["dense"]})[1] == {}


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.Flatten(), nn.Linear(32 * 36, 50), nn.Linear(50, 10))


def _masked() -> nn.Module:
    model = _network()
    apply_masks(model, magnitude_masks(model, 0.1))
    return model.eval()


@pytest.mark.parametrize("factory", [_network, _masked])
def test_a_masked_network_is_saved_as_plain_weights_with_zeros_in_a_small_file(
    factory: Callable[[], nn.Module], tmp_path: Path
) -> None:
    model = _masked()
    save_pruned(model, PruningPlan({}, {}), tmp_path)
    size = (tmp_path / FILE).stat().st_size
    assert size == file_bytes(model)
    assert size < 0.16 * file_bytes(_network())
    with safe_open(tmp_path / FILE, framework="pt") as file:
        assert "2.weight.values" in file.keys()  # noqa: SIM118
    loaded = load_pruned(factory, tmp_path)
    assert not prune.is_pruned(loaded)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(loaded(x), model(x))


def test_a_file_of_an_older_version_with_the_parts_of_masked_weights_still_loads(tmp_path: Path) -> None:
    model = _masked()
    save_pruned(model, PruningPlan({}, {}), tmp_path)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    write_tensors(tmp_path / FILE, state)
    loaded = load_pruned(_other_masks, tmp_path)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(loaded(x), model(x))


def _other_masks() -> nn.Module:
    model = _network()
    apply_masks(model, random_masks(model, 0.5, 1))
    return model


def test_shared_weights_under_a_mask_are_saved_and_stay_shared(tmp_path: Path) -> None:
    def twice() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.Linear(40, 40)
        return nn.Sequential(layer, nn.ReLU(), layer)

    model = twice()
    apply_masks(model, magnitude_masks(model, 0.1))
    save_pruned(model, PruningPlan({}, {}), tmp_path)
    x = torch.randn(4, 40)
    assert torch.equal(load_pruned(twice, tmp_path)(x), model(x))


Change = Callable[[dict[str, Tensor]], object]
TENSORS: dict[str, tuple[Change, str]] = {
    "values fewer than bits": (lambda t: t.update({"a.values": t["a.values"][1:].clone()}), "bits that are"),
    "values more than bits": (lambda t: t.update({"a.values": t["a.values"].repeat(2)}), "bits that are set"),
    "no values": (lambda t: t.pop("a.values"), "not there, or twice"),
    "no bits": (lambda t: t.pop("a.bits"), "not there, or twice"),
    "also as a plain one": (lambda t: t.update(a=torch.zeros(40, 40)), "not there, or twice"),
    "bits cut off": (lambda t: t.update({"a.bits": t["a.bits"][:9].clone()}), "9 bytes of bits for 1,600"),
    "bits of numbers": (lambda t: t.update({"a.bits": t["a.bits"].float()}), "of a wrong type"),
    "whole numbers": (lambda t: t.update({"a.values": t["a.values"].long()}), "of a wrong type"),
    "values in two axes": (lambda t: t.update({"a.values": t["a.values"][None]}), "of a wrong type or rank"),
}
METADATA: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "cannot be read as weights"),
    "deep JSON": ("[" * 1000, "nested more than 64 deep"),
    "a list": ("[1]", "are no object"),
    "names twice": ('{"a": [40, 40], "a": [40, 40]}', "'a' occurs twice"),
    "a number": ('{"a": 1600}', "is not 2 to 8 sizes above 0"),
    "no sizes": ('{"a": []}', "is not 2 to 8 sizes above 0"),
    "many sizes": (json.dumps({"a": [1] * 9}), "is not 2 to 8 sizes above 0"),
    "a size of nothing": ('{"a": [0, 40]}', "is not 2 to 8 sizes above 0"),
    "below nothing": ('{"a": [-40, -40]}', "is not 2 to 8 sizes above 0"),
    "a half": ('{"a": [40.5, 40]}', "is not 2 to 8 sizes above 0"),
    "true": ('{"a": [true, 1600]}', "is not 2 to 8 sizes above 0"),
    "a claim of 4 TB": (json.dumps({"a": [2**20, 2**20]}), "bytes of bits for 1,099,511,627,776 entries"),
    "an endless claim": (json.dumps({"a": [10**400, 1]}), "bytes of bits for"),
    "another tensor": ('{"../../evil": [40, 40]}', "packed tensor '../../evil' is not there"),
}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_tensors(tmp_path / FILE, {"a": _sparse((40, 40), 0.1)}, packed=True)
    return tmp_path / FILE


def _refusal(path: Path) -> str:
    with pytest.raises(ValueError, match="cannot be read as weights: ") as caught:
        read_tensors(path)
    line = str(caught.value)
    assert line.isprintable(), line
    return line


@pytest.mark.parametrize("name", TENSORS)
def test_packed_tensors_that_do_not_fit_each_other_are_refused_in_one_line(name: str, packed: Path) -> None:
    change, message = TENSORS[name]
    tensors = load_file(packed)
    change(tensors)
    save_file(tensors, packed, {SHAPES: '{"a": [40, 40]}'})
    assert message in _refusal(packed)


@pytest.mark.parametrize("name", METADATA)
def test_shapes_that_do_not_fit_packed_tensors_are_refused_in_one_line(name: str, packed: Path) -> None:
    shapes, message = METADATA[name]
    save_file(load_file(packed), packed, {SHAPES: shapes})
    assert message in _refusal(packed)


def test_a_bit_after_the_last_entry_is_refused() -> None:
    bits = torch.tensor([0b10000001], dtype=torch.uint8)
    tensors = {"a.values": torch.ones(2), "a.bits": bits}
    with pytest.raises(ValueError, match="2 values for 2 bits"):
        unpack(tensors, {SHAPES: '{"a": [1, 7]}'})
    assert unpack(tensors, {SHAPES: '{"a": [1, 8]}'})["a"].tolist() == [[1, 0, 0, 0, 0, 0, 0, 1]]


@many_times
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_change_of_a_packed_file_gives_anything_but_tensors_or_one_line(
    packed: Path, edits: list[tuple[float, int]]
) -> None:
    before = packed.read_bytes()
    content = bytearray(before)
    for place, value in edits:
        content[int(place * min(300, len(content) - 1))] = value
    packed.write_bytes(bytes(content))
    line, entries = "", 0
    try:
        entries = sum(tensor.numel() for tensor in read_tensors(packed)[0].values())
    except ValueError as error:
        line = str(error)
    packed.write_bytes(before)
    assert line.isprintable(), line
    assert entries <= 8 * len(content)
