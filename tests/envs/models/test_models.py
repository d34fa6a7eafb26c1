"""What `get_model` and `load_weights` promise."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.envs.models import get_model, list_models, load_weights
from secateur.envs.models.cifar import ShortcutA
from secateur.envs.modules.outputs import main_output


def demo() -> nn.Module:
    torch.manual_seed(0)
    return get_model("demo", num_classes=10, in_channels=1)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "params"),
    # He et al. 2016, table 6, to the digits given there: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M.
    [
        ("resnet20", 0.27e6),
        ("resnet32", 0.46e6),
        ("resnet44", 0.66e6),
        ("resnet56", 0.85e6),
        ("resnet110", 1.7e6),
    ],
)
def test_cifar_resnets_are_as_large_as_published(name: str, params: float) -> None:
    model = get_model(name, num_classes=10, in_channels=3)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(params, rel=0.03)


def test_cifar_resnets_have_the_parameter_names_of_the_published_checkpoints() -> None:
    modules = {
        name.rpartition(".")[0] for name in get_model("resnet20", num_classes=10, in_channels=3).state_dict()
    }
    blocks = {
        f"layer{s}.{i}.{m}" for s in (1, 2, 3) for i in range(3) for m in ("conv1", "bn1", "conv2", "bn2")
    }
    assert modules == {"conv1", "bn1", "linear"} | blocks


def test_the_padded_shortcut_takes_every_second_pixel_between_channels_of_zeros() -> None:
    x = torch.randn(2, 16, 8, 8)
    out = ShortcutA(8)(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_vgg16_has_the_features_of_torchvision_and_one_linear_layer() -> None:
    ours = get_model("vgg16", num_classes=10, in_channels=3).state_dict()
    with torch.device("meta"):  # its linear layers are large
        theirs = torchvision.models.vgg16_bn().features.state_dict(prefix="features.")
    head = {"classifier.weight": (10, 512), "classifier.bias": (10,)}
    assert {k: tuple(v.shape) for k, v in ours.items()} == {
        k: tuple(v.shape) for k, v in theirs.items()
    } | head


def test_vgg16_says_which_images_it_wants() -> None:
    model = get_model("vgg16", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match=r"32x32 pixels, got 28x28"):
        model(torch.zeros(1, 1, 28, 28))


def test_the_demo_network_is_small_and_has_every_coupling() -> None:
    model = demo().eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 8, 8))
    assert 2e6 < counter.get_total_flops() / 2 < 10e6
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert any(m.groups == m.in_channels > 1 for m in convolutions)
    assert any(m.stride == (2, 2) for m in convolutions)


@pytest.mark.parametrize(
    "name", ["demo", "resnet20", "vgg16", "resnet18", "mobilenet_v2", "densenet121", "googlenet"]
)
def test_every_kind_of_name_builds_for_any_number_of_classes_and_channels(name: str) -> None:
    model = get_model(name, num_classes=7, in_channels=2).eval()
    size = 32 if name in ("demo", "resnet20", "vgg16") else 64
    assert model(torch.zeros(2, 2, size, size)).shape == (2, 7)


def test_all_names_of_torchvision_classifiers_are_known_and_none_twice() -> None:
    names = list_models()
    assert len(names) == len(set(names))
    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(names)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model 'resnet21', did you mean 'resnet20'\?"):
        get_model("resnet21", num_classes=10, in_channels=3)
    with pytest.raises(ValueError, match=r"no model 'resnet19', did you mean 'resnet1[018]+'\?"):
        get_model("resnet19", num_classes=10, in_channels=3)


@pytest.mark.parametrize(
    ("parameters", "outputs"),
    [("", 5), ("num_classes=5", 7), ("*, num_classes, in_channels", 7), ("**settings", 7)],
)
def test_a_factory_of_the_current_directory_gets_what_it_has_parameters_for(
    here: Path, parameters: str, outputs: int
) -> None:
    body = "settings.get('num_classes')" if "settings" in parameters else "num_classes" if parameters else "5"
    (here / "mynet.py").write_text(
        f"from torch import nn\ndef make({parameters}):\n  return nn.Linear(3, {body})\n"
    )
    path = list(sys.path)
    model = get_model("mynet:make", num_classes=7, in_channels=3)
    assert isinstance(model, nn.Linear)
    assert model.out_features == outputs
    assert sys.path == path


def test_networks_of_timm_are_reached_by_their_factories() -> None:
    pytest.importorskip("timm")
    model = get_model("timm.models:resnet10t", num_classes=7, in_channels=3).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothere:make", ValueError, r"'nothere:make' cannot be imported"),
        ("mynet:mak", ValueError, r"mynet has no factory 'mak', did you mean 'make'\?"),
        ("mynet:nothing", ValueError, r"mynet has no factory 'nothing'; it has make, "),
        ("mynet:NUMBER", ValueError, r"mynet:NUMBER is int; give a function or class that returns a torch"),
        ("mynet:needs", ValueError, r"cannot be called \(missing a required argument: 'width'\)"),
        ("mynet:text", TypeError, r"returned a str"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(
    here: Path, name: str, error: type[Exception], message: str
) -> None:
    (here / "mynet.py").write_text(
        "def make(): ...\ndef needs(width): ...\ndef text(): return 'net'\nNUMBER = 3\n"
    )
    with pytest.raises(error, match=message):
        get_model(name, num_classes=7, in_channels=3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_saved_weights_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"demo{suffix}"
    trained = demo()
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), path)
    torch.manual_seed(1)
    assert same(get_model("demo", num_classes=10, in_channels=1, weights=path), trained)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_checkpoints_of_training_scripts_are_unwrapped(tmp_path: Path, key: str) -> None:
    trained = demo()
    state = {f"module.{name}": value for name, value in trained.state_dict().items()}
    torch.save({key: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert same(
        get_model("demo", num_classes=10, in_channels=1, weights=tmp_path / "checkpoint.pth"), trained
    )


def published(name: str, num_classes: int) -> nn.Module:
    """Build a network as torchvision does for its published weights, auxiliary heads and all."""
    torch.manual_seed(2)
    with_heads: dict[str, dict[str, Any]] = {
        "googlenet": {"init_weights": False},
        "inception_v3": {"init_weights": False},
        "deeplabv3_mobilenet_v3_large": {"weights_backbone": None, "aux_loss": True},
    }
    settings = with_heads.get(name, {})
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **settings)


@pytest.mark.parametrize("name", ["googlenet", "deeplabv3_mobilenet_v3_large", "mnasnet0_5"])
def test_files_of_published_networks_load_without_their_auxiliary_heads(tmp_path: Path, name: str) -> None:
    trained = published(name, 7)
    save_file(trained.state_dict(), tmp_path / "published.safetensors")
    model = get_model(name, num_classes=7, in_channels=3, weights=tmp_path / "published.safetensors")
    state, theirs = model.state_dict(), trained.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in state.items())
    assert all(key.startswith("aux") for key in theirs.keys() - state.keys())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "deeplabv3_mobilenet_v3_large"])
def test_published_weights_make_the_network_that_a_run_is_rebuilt_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    classes = len(weights.meta["categories"])
    theirs = published(name, classes).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: theirs)  # instead of a download
    model = get_model(name, num_classes=classes, in_channels=3, weights="DEFAULT")
    rebuilt = get_model(name, num_classes=classes, in_channels=3)
    rebuilt.load_state_dict(model.state_dict())
    expected = torchvision.models.get_model(name, weights=weights).eval()
    images = torch.rand(1, 3, 75, 75)
    with torch.no_grad():
        answers = [main_output(network.eval()(images)) for network in (model, rebuilt, expected)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_densenets_old_names_of_its_layers_are_known(tmp_path: Path) -> None:
    trained = torchvision.models.densenet121(num_classes=7)
    state = trained.state_dict()
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): tensor for key, tensor in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    assert same(get_model("densenet121", num_classes=7, in_channels=3, weights=tmp_path / "old.pth"), trained)


def test_weights_in_half_precision_load_as_float32_and_batch_counts_may_be_missing(tmp_path: Path) -> None:
    trained = demo()
    state = {k: v.half() for k, v in trained.state_dict().items() if "num_batches_tracked" not in k}
    save_file(state, tmp_path / "half.safetensors")
    model = get_model("demo", num_classes=10, in_channels=1, weights=tmp_path / "half.safetensors")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), trained.state_dict(), atol=1e-3, rtol=1e-3)


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "hidden.bias"), r"1 missing \(hidden\.bias\)$"),
        (lambda s: s | {"a": torch.zeros(1), "b": torch.zeros(1)}, r"2 unexpected \(a, b\)$"),
        (
            lambda s: s | {"hidden.bias": torch.zeros(3)},
            r"1 of another shape \(hidden\.bias \(3,\) instead of \(64,\)\)",
        ),
        (
            lambda s: {f"x{k}": v for k, v in s.items()},
            r"\d+ missing \(.*, \.\.\.\); \d+ unexpected .*: it is another network$",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_keys(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    model = demo()
    before = demo()
    torch.save(change(model.state_dict()), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(model, tmp_path / "other.pt")
    assert "\n" not in str(caught.value)
    assert same(model, before)


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("resnet18", "IMAGENET1K_V7", r"did you mean 'IMAGENET1K_V1'\?"),
        ("resnet18", "DEFAULT", "for 1,000 classes and 3 channels, the data has 10 and 3"),
        ("demo", "DEFAULT", "no weights 'DEFAULT' for demo"),
    ],
)
def test_weights_names_that_cannot_be_meant_are_refused_before_any_download(
    model: str, weights: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        get_model(model, num_classes=10, in_channels=3, weights=weights)
