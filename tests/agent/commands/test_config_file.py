"""What ``--config FILE`` promises: it is the same as its flags, flags win, and mistakes get one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.agent.commands import Evaluate, Prune, Train
from secateur.agent.commands.parsing import parse
from secateur.agent.run.flat_options import flat_options
from secateur.agent.run.folder import RunFolder
from support.command_line import refusal

ALIKE = [
    (["prune"], {"target_macs": 0.3}, ["--target-macs", "0.3"]),
    (["prune"], {"target-macs": 1, "search-images": 64}, ["--target-macs", "1", "--search-images", "64"]),
    (["prune"], {"model": "resnet20", "weights": "a.pt"}, ["resnet20", "--weights", "a.pt"]),
    (["prune"], {"data": "mine", "download": True, "data_root": "here"},
     ["--data", "mine", "--download", "--data-root", "here"]),
    (["prune"], {"round_to": 8, "protect": ["conv1", "fc"]},
     ["--round-to", "8", "--protect", "conv1", "--protect", "fc"]),
    (["prune"], {"download": False, "weights": None, "protect": []}, []),
    (["prune"], {"weight_decay": "1e-4", "effort": "quick", "out": "runs/x"},
     ["--weight-decay", "1e-4", "--effort", "quick", "--out", "runs/x"]),
    (["train"], {"models": ["demo", "vgg16"]}, ["demo", "vgg16"]),
    (["train"], {"models": "demo", "evaluations": 64}, ["demo", "--evaluations", "64"]),
    (["inspect"], {"input_shape": [3, 8, 8]}, ["--input-shape", "3", "8", "8"]),
    (["frontier", "demo"], {"targets": [1, 0.5]}, ["--targets", "1", "0.5"]),
    (["report"], {"folder": "runs/x"}, ["runs/x"]),
    (["runs"], {}, []),
]  # fmt: skip


def write(folder: Path, content: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(("verb", "content", "words"), ALIKE)
def test_a_file_is_the_same_as_its_flags(
    verb: list[str], content: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    file = write(tmp_path, content)
    assert parse([*verb, "--config", file]) == parse([*verb, *words])
    assert parse([*verb, f"--config={file}"]) == parse([*verb, *words])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"target_macs": 0.3, "epochs": 3}, ["--target-macs", "0.7", "--epochs=10"]),
        ({"model": "vgg16"}, ["resnet20"]),
        ({"protect": ["a", "b"]}, ["--protect", "c"]),
        ({"download": True}, ["--no-download"]),
        ({"target_macs": 7}, ["--target_macs", "0.7"]),  # what the file alone would be refused for
        ({"target_macs": 0.5}, ["--target-macs", "None", "--drop-bound", "1"]),
    ],
)
def test_flags_win_before_and_after_the_file(content: Any, words: list[str], tmp_path: Path) -> None:
    file = write(tmp_path, content)
    alone = parse(["prune", *[word for word in words if word != "--no-download"]])
    assert parse(["prune", "--config", file, *words]) == alone
    assert parse(["prune", *words, "--config", file]) == alone


def test_the_configuration_of_a_run_is_such_a_file(tmp_path: Path) -> None:
    verb = parse(["prune", "resnet20", "--target-macs", "0.3", "--protect", "conv1", "--data", "cifar10"])
    assert isinstance(verb, Prune)
    with RunFolder(tmp_path / "run", verb):
        pass
    assert parse(["prune", "--config", str(tmp_path / "run/config.yaml")]) == verb


def test_the_configuration_of_an_earlier_version_is_such_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, {"verb": "prune", "data": {"data": "mnist"}, "limits": {"round_to": ["8"]}})
    assert parse(["prune", "--config", file]) == parse(["prune", "--data", "mnist", "--round-to", "8"])


def test_an_evaluated_run_has_its_data_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "verb: prune\nmodel: demo\ndata: mnist\ndata_root: there\nseed: 3\n"
    )
    file = write(tmp_path, {"what": str(tmp_path), "data": "cifar10"})
    verb = parse(["evaluate", "--config", file])
    assert isinstance(verb, Evaluate)
    assert (verb.data.data, verb.data.data_root) == ("cifar10", Path("there"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"target_mac": 0.5}, "mine.yaml: there is no option 'target_mac', did you mean 'target_macs'?"),
        ({"epochs": 1.5}, "mine.yaml: epochs is 1.5; give a whole number"),
        ({"target_macs": "half"}, "mine.yaml: target_macs is 'half'; give a number"),
        ({"effort": "huge"}, "mine.yaml: effort is 'huge'; give one of quick, normal, thorough"),
        ({"download": "yes"}, "mine.yaml: download is 'yes'; give true or false"),
        ({"protect": {"a": 1}}, "mine.yaml: protect is {'a': 1}; give a list of texts"),
        ({"verb": "train"}, "mine.yaml is for the verb train; give one for prune"),
        ({"verb": ["prune"]}, "mine.yaml is for the verb ['prune']; give one for prune"),
        (
            {"target_macs": 0.5, "drop_bound": 1},
            "target_macs and drop_bound exclude each other; give one",
        ),
        ("", "mine.yaml has no options"),
        ("epochs: 1\nseed: 3\nepochs: 2\n", "the key 'epochs' occurs twice; leave one of them out"),
        ("[" * 5000, "is not YAML that can be read"),
        ("a: &a [1]\nb: *a\n", "aliases are not allowed"),
    ],
)
def test_a_wrong_file_gets_one_line(
    content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(["prune", "--config", write(tmp_path, content)], capsys)


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(["prune", "--config", "nowhere.yaml"], capsys)
    assert error == "secateur: there is no file nowhere.yaml; give --config a YAML file of options"


def test_a_required_argument_may_come_from_the_file_and_is_missing_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, {"out": "x.pt2"})
    assert "an argument is missing, folder" in refusal(["export", "--config", file], capsys)


def test_every_option_of_a_verb_can_be_in_the_file(tmp_path: Path) -> None:
    for verb in (Prune(model="vgg16"), Train(models=("demo",))):
        name = type(verb).__name__.lower()
        assert parse([name, "--config", write(tmp_path, flat_options(verb))]) == verb
