"""What ``import secateur`` gives: few names, flat keywords, errors that name the nearest, resumable runs."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from secateur.agent.learning.config import PRETRAINED
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.procedures import keywords, opening
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.run.flat_options import options_of
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.surgery import save_pruned
from secateur.envs.tasks import ClassificationTask, measure
from support.small import plain_network


class Nothing(nn.Module):
    """Multiply the outputs by 0."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs * 0


BRIEF: dict[str, Any] = {"target_macs": 0.5, "evaluations": 32, "search_images": 64, "epochs": 1}


def test_the_public_names_are_few_and_the_stub_names_the_same() -> None:
    stub = ast.parse(Path(secateur.__file__).with_suffix(".pyi").read_text())
    listed = next(ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert set(listed) == set(secateur.__all__)
    assert len(listed) <= 12
    for name in secateur.__all__:
        assert getattr(secateur, name) is not None
    assert set(secateur.__all__) <= set(dir(secateur))


def test_importing_takes_no_torch_until_a_name_is_used() -> None:
    code = (
        "import sys, secateur; assert 'torch' not in sys.modules; "
        "secateur.PruningConfig; assert 'torch' not in sys.modules; "
        "secateur.PruningPlan.dense"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prun'; it has trace, search"):
        _ = secateur.prun  # type: ignore[attr-defined]


def test_every_option_of_the_command_line_is_a_keyword() -> None:
    names = [option.name for kind in (PruningConfig, DataConfig) for option in options_of(kind)]
    assert len(names) == len(set(names))
    options = dict.fromkeys(names, "odd") | {"data": None, "task": None}
    options = {name: value for name, value in options.items() if value is not None}
    pruning, data = keywords.split_keywords(options, PruningConfig, DataConfig)
    assert {*pruning, *data} == {*names} - {"data", "task"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_mac": 0.5}, "no option 'target_mac', did you mean 'target_macs'"),
        ({"efort": "quick"}, "no option 'efort', did you mean 'effort'"),
        ({"effort": "quik"}, "no effort 'quik', did you mean 'quick'"),
        ({"image_size": 32}, "the task brings its own data; leave out image_size"),
        ({"device": "cuda"}, "leave out device, and bring the network to that device"),
        ({"target_macs": 2.0}, "the target is 2.0"),
        ({"data": "digits"}, "no option 'data'"),
    ],
)
@pytest.mark.parametrize("verb", [secateur.prune, secateur.search])
def test_a_wrong_keyword_is_answered_with_the_nearest(
    digit_task: ClassificationTask, verb: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        verb(plain_network(), digit_task, **options)


def test_what_is_no_network_is_refused(digit_task: ClassificationTask) -> None:
    with pytest.raises(TypeError, match=r"the model is str; give an nn\.Module"):
        secateur.prune("resnet20", digit_task)  # type: ignore[arg-type]


def test_search_and_cut_train_nothing_and_ones_own_loop_can_go_on(digit_task: ClassificationTask) -> None:
    model = plain_network()
    before = copy.deepcopy(model.state_dict())
    plan = secateur.search(model, digit_task, target_macs=0.5, effort="quick", search_images=64)
    smaller = secateur.cut(model, secateur.PruningPlan.from_json(plan.to_json()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    inputs, targets = digit_task.batch("train", torch.arange(64))
    loss = nn.functional.cross_entropy(smaller.train()(inputs), targets)
    loss.backward()
    assert all(p.grad is not None for p in smaller.parameters())


def test_a_search_gives_the_plan_of_a_run_without_epochs(digit_task: ClassificationTask) -> None:
    options: dict[str, Any] = {"evaluations": 16, "search_images": 64, "target_macs": 0.5}
    plan = secateur.search(plain_network(), digit_task, **options)
    assert plan == secateur.prune(plain_network(), digit_task, epochs=0, **options).plan


def test_a_cut_with_data_makes_up_for_what_goes(digit_task: ClassificationTask) -> None:
    model = secateur.recover(plain_network(), digit_task, epochs=4, learning_rate=0.1)
    plan = secateur.search(model, digit_task, target_macs=0.6, method="random-uniform", search_images=64)
    losses = []
    for smaller in (secateur.cut(model, plan), secateur.cut(model, plan, task=digit_task)):
        secateur.recover(smaller, digit_task, epochs=0)
        losses.append(measure(smaller, digit_task, "val").loss)
    assert losses[1] < losses[0]


def test_protected_layers_are_not_in_a_plan_and_stay_whole(digit_task: ClassificationTask) -> None:
    model = plain_network()
    plan = secateur.search(model, digit_task, method="l2-uniform", target_macs=0.7, protect="0")
    assert "0" not in plan.kept
    assert secateur.cut(model, plan)[0].weight.shape == model[0].weight.shape


def test_a_plan_without_a_shape_asks_for_an_example(digit_task: ClassificationTask) -> None:
    model = plain_network()
    plan = secateur.search(model, digit_task, method="l2-uniform")
    bare = secateur.PruningPlan(plan.kept, plan.filters, plan.attributes)
    with pytest.raises(ValueError, match="give example=, a batch of inputs"):
        secateur.cut(model, bare)
    example = torch.zeros(2, *digit_task.input_shape)
    assert secateur.cut(model, bare, example=example)[0].weight.shape[0] == len(plan.kept["0"])


def test_a_run_leaves_a_folder_is_loaded_again_and_refused_with_other_options(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    out, model = tmp_path / "run", plain_network()
    result = secateur.prune(model, digit_task, out=out, **BRIEF)
    loaded = secateur.load(plain_network, out)
    again = secateur.prune(model, digit_task, out=out, resume=True, **BRIEF)
    for other in (loaded, again.model):
        for one, two in zip(result.model.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
    assert again.plan.kept == result.plan.kept
    assert again.report == json.loads(json.dumps(result.report))
    assert result.report["model"] == "Sequential"
    with pytest.raises(ValueError, match="holds a run; give resume=True"):
        secateur.prune(model, digit_task, out=out, **BRIEF)
    with pytest.raises(ValueError, match=r"was begun with target_macs=0\.5, not 0\.4; give the same options"):
        secateur.prune(model, digit_task, out=out, resume=True, **BRIEF | {"target_macs": 0.4})


def test_a_run_does_not_go_on_with_other_weights(digit_task: ClassificationTask, tmp_path: Path) -> None:
    options = {**BRIEF, "method": "l2-uniform", "evaluations": None, "epochs": 0}
    secateur.prune(plain_network(), digit_task, out=tmp_path / "run", **options)
    with pytest.raises(ValueError, match="was begun with other weights of the dense network"):
        secateur.prune(plain_network(1), digit_task, out=tmp_path / "run", resume=True, **options)


def test_a_run_does_not_go_on_with_another_agent(digit_task: ClassificationTask, tmp_path: Path) -> None:
    options = {**BRIEF, "evaluations": 0, "epochs": 0, "agent": tmp_path}
    agent = FrozenAgent.load(PRETRAINED)
    agent.save(tmp_path)
    secateur.prune(plain_network(), digit_task, out=tmp_path / "run", **options)
    secateur.prune(plain_network(), digit_task, out=tmp_path / "run", resume=True, **options)
    next(agent.scorer.parameters()).data += 1
    agent.save(tmp_path)
    with pytest.raises(ValueError, match="was begun with other weights of the agent"):
        secateur.prune(plain_network(), digit_task, out=tmp_path / "run", resume=True, **options)


def test_a_run_does_not_go_on_with_other_data(
    digit_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**BRIEF, "method": "l2-uniform", "evaluations": None, "epochs": 0}
    splits = digit_task.splits
    fewer = dataclasses.replace(
        digit_task, splits={**splits, "test": splits["test"].take(torch.arange(1, 100))}
    )
    others = dataclasses.replace(digit_task, splits={**splits, "val": splits["test"], "test": splits["val"]})
    finished, stopped = tmp_path / "finished", tmp_path / "stopped"
    secateur.prune(plain_network(), digit_task, out=finished, **options)
    with monkeypatch.context() as patch:
        patch.setattr("secateur.agent.procedures.prune.summarize_run", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            secateur.prune(plain_network(), digit_task, out=stopped, **options)
    for out in (finished, stopped):
        for task in (fewer, others):
            with pytest.raises(ValueError, match="was begun with other data; give the same, or a new folder"):
                secateur.prune(plain_network(), task, out=out, resume=True, **options)
        with pytest.raises(ValueError, match="the task is no task: int has no name"):
            secateur.prune(plain_network(), 5, out=out, resume=True, **options)  # type: ignore[arg-type]
        secateur.prune(plain_network(), digit_task, out=out, resume=True, **options)


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("training", [True, False])
def test_the_network_keeps_its_mode(digit_task: ClassificationTask, *, training: bool) -> None:
    model = plain_network().train(training)
    secateur.search(model, digit_task, method="l2-uniform")
    assert {module.training for module in model.modules()} == {training}


def test_an_interrupted_run_goes_on_to_the_same_result(
    digit_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = secateur.prune(plain_network(), digit_task, out=tmp_path / "whole", **BRIEF)
    out, calls = tmp_path / "stopped", []

    def stop(self: Any) -> None:
        calls.append(1)
        if len(calls) == 20:
            raise Stopped(self._advice)

    with monkeypatch.context() as patch:
        patch.setattr("secateur.agent.run.graceful_stop.GracefulStop.check", stop)
        with pytest.raises(KeyboardInterrupt, match=r"secateur\.prune\(\.\.\., out='.*', resume=True\)"):
            secateur.prune(plain_network(), digit_task, out=out, **BRIEF)
    result = secateur.prune(plain_network(), digit_task, out=out, resume=True, **BRIEF)
    assert result.plan == whole.plan
    for one, two in zip(result.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_load_takes_a_factory_with_or_without_arguments_and_a_network(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    def sized(num_classes: int, in_channels: int = 3) -> nn.Module:
        assert (num_classes, in_channels) == (10, 1)
        return plain_network()

    options = {**BRIEF, "method": "l2-uniform", "evaluations": None, "epochs": 0}
    result = secateur.prune(plain_network(), digit_task, out=tmp_path / "run", **options)
    for factory in (sized, plain_network, plain_network()):
        loaded = secateur.load(factory, tmp_path / "run")
        assert torch.equal(loaded[0].weight, result.model[0].weight)


def test_load_takes_a_folder_without_a_report_and_the_defaults_of_the_factory(tmp_path: Path) -> None:
    def with_default(num_classes: int = 10) -> nn.Module:
        assert num_classes == 10
        return plain_network()

    def without_default(num_classes: int) -> nn.Module:
        return plain_network()

    plan = secateur.search(plain_network(), "digits", method="l2-uniform")
    smaller = secateur.cut(plain_network(), plan)
    save_pruned(smaller, plan, tmp_path)
    for factory in (with_default, plain_network()):
        assert torch.equal(secateur.load(factory, tmp_path)[0].weight, smaller[0].weight)
    with pytest.raises(ValueError, match="give a function without arguments, such as lambda: build"):
        secateur.load(without_default, tmp_path)


def test_resume_begins_a_run_where_there_is_none(digit_task: ClassificationTask, tmp_path: Path) -> None:
    options = {**BRIEF, "method": "l2-uniform", "evaluations": None, "epochs": 0}
    secateur.prune(plain_network(), digit_task, out=tmp_path / "new", resume=True, **options)
    assert (tmp_path / "new" / "report.json").is_file()


def test_what_has_no_folder_cannot_be_resumed(digit_task: ClassificationTask) -> None:
    for function in (secateur.prune, secateur.compare):
        with pytest.raises(ValueError, match="resume=True goes on with the run in a folder; give out="):
            function(plain_network(), digit_task, resume=True)


def test_a_folder_in_use_and_a_factory_that_is_none_are_said_in_pythons_words(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="is not empty; give a new folder as out, nothing is overwritten"):
        secateur.prune(plain_network(), digit_task, target_macs=0.5, epochs=0, out=tmp_path)
    for report in ("", '{"num_outputs": 10, "input_shape": [1, 8, 8]}'):
        if report:
            (tmp_path / "report.json").write_text(report)
        plan = secateur.PruningPlan({"0": (0,)}, {"0": 10})
        save_pruned(plain_network(), plan, tmp_path)
        with pytest.raises(TypeError, match=r"^the factory is str; give a function"):
            secateur.load("demo", tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "is_warned"), [(1, True), (100, False)])
def test_a_metric_that_gives_shares_is_warned_of(
    scale: int, is_warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    part = (torch.randn(40, 1, 8, 8), torch.arange(40) % 10)
    task = secateur.TensorTask(
        train=part,
        val=part,
        test=part,
        loss=F.cross_entropy,
        metric=lambda outputs, targets: scale * (outputs.argmax(1) == targets).double().mean(),
    )
    secateur.search(plain_network(), task, method="l2-uniform", search_images=20)
    assert ("multiply the metric by 100" in capsys.readouterr().err) is is_warned


def test_a_folder_of_images_or_a_name_is_data_too() -> None:
    model = plain_network()
    plan = secateur.search(model, "digits", method="l2-uniform", normalisation="mnist")
    assert plan.input_shape == (1, 8, 8)
    with pytest.raises(ValueError, match="no data set and no folder 'digit', did you mean 'digits'"):
        secateur.search(model, "digit")


def test_a_network_that_cannot_be_pruned_gets_no_advice_on_its_accuracy(
    digit_task: ClassificationTask, capsys: pytest.CaptureFixture[str]
) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    nn.init.zeros_(linear[1].weight)
    with pytest.raises(ValueError, match="no filter of Sequential can be pruned"):
        secateur.prune(linear, digit_task)
    logged = "".join(capsys.readouterr())
    assert "dense network Sequential" in logged
    assert "warning" not in logged
    opening.describe_own_task(digit_task, "constant", nn.Sequential(plain_network(), Nothing()))
    assert "warning: that is not better than the same answer" in "".join(capsys.readouterr())


def test_a_multilayer_perceptron_is_pruned_by_the_agent(digit_task: ClassificationTask) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10)
    )
    secateur.recover(model, digit_task, epochs=20, learning_rate=0.1)
    plan = secateur.search(model, digit_task, target_macs=0.4, effort="quick")
    assert set(plan.kept) == {"1", "3"}
    smaller = secateur.cut(model, plan, task=digit_task)
    assert smaller[1].out_features == smaller[3].in_features == len(plan.kept["1"])
    kept = sum(p.numel() for p in smaller.parameters() if p.dim() > 1)
    assert kept <= 0.4 * sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert measure(smaller, digit_task, "test").accuracy > 75
