"""Weights come as they are saved: whatever the name of the file, and wherever a script put them in it."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.envs.models import get_model, load_weights

State = dict[str, Tensor]


class AttributeDict(dict[str, Any]):
    """As Lightning's, for options."""


def demo(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return get_model("demo", num_classes=num_classes, in_channels=in_channels)


def is_loaded(path: Path) -> bool:
    torch.manual_seed(1)
    loaded = get_model("demo", num_classes=10, in_channels=1, weights=path).state_dict()
    return all(torch.equal(tensor, loaded[name]) for name, tensor in demo().state_dict().items())


def prefixed(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in demo().state_dict().items()}


@pytest.mark.parametrize(
    "ending", ["th", "ckpt", "pth.tar", "bin", "pt", "weights", "safetensors", "anything"]
)
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_a_file_is_read_by_its_content_whatever_its_ending(tmp_path: Path, ending: str, form: str) -> None:
    path, state = tmp_path / f"demo.{ending}", demo().state_dict()
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    assert is_loaded(path)


@pytest.mark.parametrize("length", [0x80, 0x280, 0x4B50])
def test_a_header_of_safetensors_is_not_taken_for_another_format(tmp_path: Path, length: int) -> None:
    """The file begins with the length of its header, which may be the first bytes of a pickle or archive."""
    path = tmp_path / "demo.bin"
    save_file(demo().state_dict(), path)
    content = path.read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip()
    length += 0x10000 * (len(header) > length)
    path.write_bytes(
        length.to_bytes(8, "little")
        + header.ljust(length)
        + content[8 + int.from_bytes(content[:8], "little") :]
    )
    assert is_loaded(path)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_orig_mod.", "net.", "module.model.", "_orig_mod.module.", "classifier2."],
)
def test_prefixes_are_understood_also_beside_other_tensors(tmp_path: Path, prefix: str) -> None:
    others = {"criterion.weight": torch.ones(10), "ema_model.x": torch.ones(1)} if prefix else {}
    torch.save(
        {"state_dict": prefixed(prefix) | others, "best_prec1": torch.tensor(91.0)}, tmp_path / "a.ckpt"
    )
    assert is_loaded(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s},
        lambda s: {"model_state_dict": s},
        lambda s: {"net": s, "acc": 91.0, "epoch": 3},
        lambda s: {"ema": {"module": s}},
        lambda s: {"checkpoint": {"model": {"state_dict": s}}},
        lambda s: {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "mine": s},
        lambda s: OrderedDict(s, epoch=3),
    ],
)
def test_the_state_dict_is_found_wherever_it_is(tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    torch.save(wrap(demo().state_dict()), tmp_path / "a.pt")
    assert is_loaded(tmp_path / "a.pt")


def test_of_several_networks_in_a_file_the_one_that_fits_is_taken_and_averages_only_if_alone(
    tmp_path: Path,
) -> None:
    average = {name: tensor + 1 for name, tensor in demo().state_dict().items()}
    discriminator = nn.Linear(3, 3).state_dict()
    torch.save({"ema": average, "model": demo().state_dict(), "net": discriminator}, tmp_path / "a.pt")
    assert is_loaded(tmp_path / "a.pt")


def test_two_prefixes_that_fit_equally_are_not_guessed_between(tmp_path: Path) -> None:
    torch.save(prefixed("student.") | prefixed("teacher."), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="missing"):
        load_weights(demo(), tmp_path / "a.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_lightning_checkpoint_is_read_though_its_options_are_of_unknown_classes(
    tmp_path: Path, legacy: bool
) -> None:
    content = {
        "state_dict": prefixed("model."),
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": Path("best.ckpt")}},
        "hyper_parameters": AttributeDict(
            optimizer=functools.partial(torch.optim.SGD, lr=0.1),
            arguments=argparse.Namespace(depth=3),
            criterion=None if legacy else nn.CrossEntropyLoss(),
            counts=defaultdict(list, a=[1]),
            shape=slice(3),
        ),
    }
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    assert is_loaded(tmp_path / "a.ckpt")


class Calls:
    """Call a function where it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_that_a_checkpoint_names_is_called_or_imported(tmp_path: Path, legacy: bool) -> None:
    path, evil = tmp_path / "a.ckpt", tmp_path / "evil"
    evil.touch()
    content = {
        "state_dict": demo().state_dict(),
        "hyper_parameters": [
            Calls(shutil.copy, path, evil),
            Calls(eval, f"open({str(evil)!r}, 'w').write('x')"),
        ],
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert is_loaded(path)
    assert not evil.stat().st_size
    torch.save(
        {"state_dict": demo().state_dict(), "options": Calls(os.system, f"echo executed > {evil}")}, path
    )
    with pytest.raises(
        ValueError, match="Python objects beside tensors"
    ):  # torch refuses the module os outright
        load_weights(demo(), path)
    assert not evil.stat().st_size


def test_a_whole_network_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    torch.save(demo(), tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"a Python object \(.*DemoNet\), which .* save model\.state_dict\(\)"
    ):
        load_weights(demo(), tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x08\x08\x12\x07pytorch", "ONNX"),
        (b"no weights at all", "cannot be read as weights"),
    ],
)
def test_a_file_of_another_format_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        load_weights(demo(), tmp_path / "a.pt")


def test_torchscript_and_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.jit.trace(demo().eval(), torch.zeros(2, 1, 8, 8)).save(str(tmp_path / "a.pt"))
    with pytest.raises(ValueError, match="TorchScript"):
        load_weights(demo(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is a folder"):
        load_weights(demo(), tmp_path)


def test_weights_for_other_classes_or_channels_say_so(tmp_path: Path) -> None:
    torch.save(prefixed("module."), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="they are for 10 classes, the data has 7"):
        get_model("demo", num_classes=7, in_channels=1, weights=tmp_path / "a.pt")
    with pytest.raises(ValueError, match="they are for images of 1 channel, the data has 3"):
        get_model("demo", num_classes=10, in_channels=3, weights=tmp_path / "a.pt")
