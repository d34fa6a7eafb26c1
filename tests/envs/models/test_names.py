"""Names of networks: timm's, Hugging Face's, torch.hub's and the user's own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.envs.models import get_model, is_user_defined, usual_sizes
from secateur.envs.modules.outputs import main_output


def outputs(model: nn.Module, *shape: int) -> tuple[int, ...]:
    return tuple(main_output(model.eval()(torch.zeros(2, *shape))).shape)


@pytest.mark.parametrize(
    "code",
    [
        "def thing(): return Net(7, 2)",
        "def thing(num_classes, in_channels=3): return Net(num_classes, in_channels)",
        "def thing(num_classes=3, *, in_channels): return Net(num_classes, in_channels)",
        "thing = Net",
        "thing = functools.partial(Net, in_channels=2)",
        "thing = Net(7, 2)",
        "class Maker:\n  def __call__(self, num_classes): return Net(num_classes, 2)\nthing = Maker()",
    ],
)
def test_whatever_makes_a_network_is_a_factory(here: Path, code: str) -> None:
    (here / "named_net.py").write_text(
        "import functools\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n"
        "  def __init__(self, num_classes, in_channels):\n"
        "    super().__init__(nn.Conv2d(in_channels, 4, 3), nn.Flatten(), nn.Linear(36 * 4, num_classes))\n"
        f"{code}\n"
    )
    model = get_model("named_net:thing", num_classes=7, in_channels=2)
    assert outputs(model, 2, 8, 8) == (2, 7)
    again = get_model("named_net:thing", num_classes=7, in_channels=2)
    assert again is not model  # as one of the two is cut
    assert next(again.parameters()) is not next(model.parameters())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def thing(): return {}['a']", "the factory broken_net:thing failed: KeyError: 'a'"),
        ("def thing(): assert False", "the factory broken_net:thing failed: AssertionError"),
        ("raise RuntimeError('no license')", "cannot be imported: RuntimeError: no license"),
        ("def thing(:", "cannot be imported: SyntaxError: "),
    ],
)
def test_a_failure_of_the_users_code_is_one_line(here: Path, code: str, said: str) -> None:
    (here / "broken_net.py").write_text(code)
    with pytest.raises(ValueError, match=said) as caught:
        get_model("broken_net:thing", num_classes=7, in_channels=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [":", ":thing", "module:"])
def test_half_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"give package\.module:thing"):
        get_model(name, num_classes=7, in_channels=2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("microsoft/resnet-50", r"did you mean 'hf:microsoft/resnet-50'\?"),
        ("mynet.py", r"give mynet:FACTORY"),
        ("weights.pt", r"give the name of its network, and --weights weights.pt"),
        ("runs", r"it is a folder"),
        ("torchvision:resnet19", r"torchvision has no network 'resnet19', did you mean 'resnet1"),
        ("torchhub:resnet18", r"give torchhub:owner/repository:entry"),
    ],
)
def test_what_was_meant_by_a_wrong_name_is_said(here: Path, name: str, said: str) -> None:
    (here / "weights.pt").touch()
    (here / "runs").mkdir()
    with pytest.raises(ValueError, match=said):
        get_model(name, num_classes=7, in_channels=3)


def test_names_of_published_networks_are_not_the_users_own() -> None:
    assert is_user_defined("mynet:build")
    others = ("demo", "timm:resnet18", "hf:owner/net", "torchhub:owner/repo:net", "torchvision:vgg16")
    assert not any(map(is_user_defined, others))


def test_torchvisions_networks_have_a_name_of_their_own() -> None:
    model = get_model("torchvision:mobilenet_v2", num_classes=7, in_channels=1)
    assert outputs(model, 1, 32, 32) == (2, 7)
    assert usual_sizes("torchvision:inception_v3") == ((3, 299, 299), 1000)
    assert usual_sizes("torchvision:lraspp_mobilenet_v3_large").outputs == 21


def test_networks_of_timm_are_built_by_name() -> None:
    pytest.importorskip("timm")
    model = get_model("timm:resnet10t", num_classes=7, in_channels=1)
    assert outputs(model, 1, 32, 32) == (2, 7)
    assert usual_sizes("timm:resnet10t") == ((3, 176, 176), 1000)


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("resnet26d", None, r"there is no model 'resnet26d', did you mean 'timm:resnet26d'\?"),
        ("timm:resnet26q", None, r"timm has no network 'resnet26q', did you mean 'resnet26'\?"),
        ("timm:resnet50.a1_in1k", None, r"give timm:resnet50 --weights a1_in1k"),
        ("timm:resnet50", "a1_in2k", r"did you mean 'a1_in1k'\?; give DEFAULT, "),
        ("timm:resnet50", "DEFAULT", "for 1,000 classes and 3 channels, the data has 7 and 3"),
        ("timm:resnet50", "resnet50.a1_in1k", "for 1,000 classes and 3 channels, the data has 7 and 3"),
    ],
)
def test_wrong_names_of_timm_are_answered_before_any_download(
    name: str, weights: str | None, said: str
) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=said):
        get_model(name, num_classes=7, in_channels=3, weights=weights)


def test_published_weights_of_timm_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    create, trained = timm.create_model, timm.create_model("resnet10t")

    def pretrained(name: str, *, pretrained: bool = False, **settings: Any) -> nn.Module:
        assert not pretrained or name == "resnet10t.c3_in1k"
        return trained if pretrained else create(name, **settings)  # instead of a download

    monkeypatch.setattr(timm, "create_model", pretrained)
    model = get_model("timm:resnet10t", num_classes=1000, in_channels=3, weights="c3_in1k")
    assert torch.equal(model.state_dict()["fc.weight"], trained.state_dict()["fc.weight"])


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    """Save a small network as Hugging Face does."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=7)
    torch.manual_seed(0)
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_networks_of_hugging_face_are_built_for_the_data(resnet: Path) -> None:
    assert usual_sizes(f"hf:{resnet}") == ((3, 224, 224), 7)
    for classes, channels in ((7, 3), (5, 1)):
        model = get_model(f"hf:{resnet}", num_classes=classes, in_channels=channels)
        assert outputs(model, channels, 32, 32) == (2, classes)


def test_weights_of_hugging_face_come_by_name_or_as_a_file(resnet: Path) -> None:
    models = [
        get_model(f"hf:{resnet}", num_classes=7, in_channels=3, weights=weights)
        for weights in ("DEFAULT", resnet / "model.safetensors")
    ]
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    with pytest.raises(ValueError, match="are for 7 classes and 3 channels, the data has 5 and 3"):
        get_model(f"hf:{resnet}", num_classes=5, in_channels=3, weights="DEFAULT")
    with pytest.raises(ValueError, match=r"no weights 'best' for hf:.*; give DEFAULT, or a file"):
        get_model(f"hf:{resnet}", num_classes=7, in_channels=3, weights="best")


def test_code_of_a_hugging_face_repository_is_not_run(resnet: Path, tmp_path: Path) -> None:
    (resnet / "evil.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w')\nclass Config: pass\n")
    (resnet / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}')
    with pytest.raises(ValueError, match="cannot be read"):
        get_model(f"hf:{resnet}", num_classes=7, in_channels=3)
    assert not (tmp_path / "written").exists()


def test_a_folder_that_is_no_network_of_hugging_face_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*config\.json"):
        get_model(f"hf:{tmp_path}", num_classes=7, in_channels=3)


@pytest.mark.parametrize(
    ("name", "command"), [("timm:resnet18", r"secateur\[timm\]"), ("hf:.", "transformers")]
)
def test_a_missing_package_is_answered_with_the_command_that_installs_it(
    here: Path, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "config.json").write_text("{}")
    for package in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(importlib, "import_module", _missing)
    with pytest.raises(ValueError, match=f"not installed: pip install '?{command}"):
        get_model(name, num_classes=7, in_channels=3)


def _missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


HUBCONF = """
from hub_part import Net

def net(pretrained=False, num_classes=10, in_channels=3):
    model = Net(num_classes, in_channels)
    if pretrained:
        model[0].bias.data.fill_(3)
    return model

def broken():
    raise KeyError("weights")
"""


@pytest.fixture
def hub(here: Path) -> Path:
    """Make a repository of torch.hub, whose module imports another of the same folder."""
    (here / "repository").mkdir()
    (here / "repository" / "hubconf.py").write_text(HUBCONF)
    (here / "repository" / "hub_part.py").write_text(
        "from torch import nn\n"
        "def Net(classes, channels):\n"
        "  return nn.Sequential(nn.Conv2d(channels, 4, 8), nn.Flatten(), nn.Linear(4, classes))\n"
    )
    return here / "repository"


def test_networks_of_torch_hub_are_built_from_a_folder(hub: Path) -> None:
    before = list(sys.path)
    model = get_model("torchhub:./repository:net", num_classes=7, in_channels=1)
    assert outputs(model, 1, 8, 8) == (2, 7)
    trained = get_model(f"torchhub:{hub}:net", num_classes=10, in_channels=3, weights="DEFAULT")
    assert (trained.state_dict()["0.bias"] == 3).all()
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("nett", None, r"no entry of torchhub:./repository 'nett', did you mean 'net'\?"),
        ("broken", None, r"failed: KeyError: 'weights'"),
        ("net", "best", "give DEFAULT, or a file"),
        ("broken", "DEFAULT", "no weights 'DEFAULT'.*; give a file"),
        ("net", "DEFAULT", "they are for 10 classes, the data has 7"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_wrong_names_of_a_hub_are_answered(name: str, weights: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        get_model(f"torchhub:./repository:{name}", num_classes=7, in_channels=3, weights=weights)


def test_code_of_a_repository_that_torch_does_not_trust_is_not_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(here / "cache"))
    with pytest.raises(
        ValueError, match=r"would run code of github\.com/owner/repo, .* run once: python -c '.*'$"
    ):
        get_model("torchhub:owner/repo:branch:net", num_classes=7, in_channels=3)
    assert not capsys.readouterr().out


def test_a_repository_in_torchs_cache_needs_no_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub.parent / "cache"))
    (hub.parent / "cache").mkdir()
    hub.rename(hub.parent / "cache" / "owner_repo_branch")
    model = get_model("torchhub:owner/repo:branch:net", num_classes=7, in_channels=3)
    assert outputs(model, 3, 8, 8) == (2, 7)
