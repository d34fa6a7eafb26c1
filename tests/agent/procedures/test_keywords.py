"""What is wrong in a call from Python is said before anything is loaded: what was given, what to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import secateur
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.keywords import checked_keywords
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

IMAGES, LABELS = torch.zeros(4, 1, 8, 8), torch.arange(4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_macs": "half"}, "target_macs is 'half'; give a number such as 0.5 or 50%"),
        ({"target_latency": "fast"}, "target_latency is 'fast'; give a number"),
        ({"drop_bound": [1]}, r"drop_bound is \[1\]; give a number of percentage points such as 2"),
        ({"image_size": "big"}, "image_size is 'big'; give a whole number"),
        ({"epochs": "2"}, "epochs is '2'; give a whole number"),
        ({"seed": 1.5}, r"seed is 1\.5; give a whole number"),
        ({"momentum": True}, "momentum is True; give a number"),
        ({"download": "yes"}, "download is 'yes'; give true or false"),
    ],
)
def test_a_keyword_of_the_wrong_type_is_said_with_what_it_takes(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        secateur.prune(plain_network(), "digits", **options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"on_step": 5}, "on_step is 5; give a function of the progress"),
        ({"on_epoch": "log"}, "on_epoch is 'log'; give a function of the progress"),
        ({"name": 5}, "name is 5; give a text"),
        ({"out": 5}, "out is 5; give a path"),
        ({"out": ""}, "out is ''; give a path"),
        ({"resume": "yes"}, "resume is 'yes'; give True or False"),
        ({"lr": 0.1}, "there is no option 'lr', did you mean 'learning_rate'\\?"),
    ],
)
def test_an_argument_of_the_wrong_type_is_said_with_what_it_takes(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        secateur.prune(plain_network(), "digits", **arguments)


def test_recover_says_what_a_seed_is() -> None:
    with pytest.raises(ValueError, match=r"^seed is None; allowed is 0 to 4294967295, a whole number$"):
        secateur.recover(plain_network(), "digits", seed=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["target_macs", "target_latency", "drop_bound"])
def test_a_target_that_is_no_number_is_said_by_the_options_themselves(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 'half'; give a number"):
        PruningConfig(**{name: "half"})


def test_what_python_code_usually_holds_is_taken(tmp_path: Path) -> None:
    given = {
        "agent": tmp_path,
        "seed": np.int64(3),
        "target_macs": np.float32(0.5),
        "learning_rate": np.float64(0.1),
        "data_root": str(tmp_path),
        "device": torch.device("cpu"),
        "round_to": {"0": 4},
        "protect": "0",
        "max_sparsity": 0.5,
        "minutes": 1,
    }
    taken = checked_keywords("prune", given)
    assert taken["agent"] == str(tmp_path)
    assert taken["data_root"] == tmp_path
    assert taken["device"] == "cpu"
    assert (type(taken["seed"]), type(taken["target_macs"])) == (int, float)
    assert [taken[name] for name in ("round_to", "protect", "max_sparsity")] == [{"0": 4}, "0", 0.5]


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (secateur.search, {"out": "runs/py"}, "out is an option of prune, not of search"),
        (secateur.search, {"epochs": 2}, "epochs is an option of prune and recover, not of search"),
        (secateur.recover, {"target_macs": 0.5}, "target_macs is an option of search and prune, not of rec"),
        (
            secateur.recover,
            {"compensation_images": 8},
            "compensation_images is an option of search and",
        ),
        (secateur.compare, {"round_to": 8}, "round_to is an option of search and prune, not of compare"),
        (secateur.compare, {"layer_epochs": 2}, "layer_epochs is an option of prune, not of compare"),
        (secateur.compare, {"teacher": None}, "teacher is an option of prune and recover, not of compare"),
        (secateur.compare, {"target_macs": 0.5}, "target_macs is .*, not of compare; give targets instead"),
        (secateur.recover, {"resume": True}, "resume is an option of prune, not of recover"),
    ],
)
def test_an_option_of_another_function_is_refused_by_name(
    function: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        function(plain_network(), "digits", **options)


def test_the_search_takes_the_images_of_the_compensation() -> None:
    assert checked_keywords("search", {"compensation_images": 0}) == {"compensation_images": 0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (secateur.TensorTask, r"the task is the class TensorTask; give an object, TensorTask\(\.\.\.\)"),
        (None, r"the task is None; give a task, such as secateur\.TensorTask"),
        ((IMAGES, LABELS), r"the task is tuple; give secateur\.TensorTask\(train=.*pairs of tensors"),
        (IMAGES, r"the task is Tensor; give secateur\.TensorTask"),
        (DataLoader(TensorDataset(IMAGES, LABELS)), r"the task is DataLoader; give .*LoaderTask\(train="),
        (TensorDataset(IMAGES, LABELS), r"the task is TensorDataset; give .*LoaderTask\(train="),
    ],
)
@pytest.mark.parametrize("function", [secateur.search, secateur.prune, secateur.recover])
def test_what_tasks_are_made_of_is_no_task(function: Any, given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        function(plain_network(), given)


def test_an_object_without_the_members_of_a_task_is_named_by_its_own_type() -> None:
    with pytest.raises(ValueError, match="the task is no task: float has no name, input_shape"):
        secateur.search(plain_network(), 0.5)


def test_a_cut_takes_a_plan_and_data_not_their_paths(digit_task: ClassificationTask) -> None:
    with pytest.raises(TypeError, match=r"the plan is str; give a PruningPlan, such as PruningPlan\.from_js"):
        secateur.cut(plain_network(), "runs/py")  # type: ignore[arg-type]
    plan = secateur.search(plain_network(), digit_task, method="l2-uniform", search_images=64)
    with pytest.raises(TypeError, match="the task is str; give a task"):
        secateur.cut(plain_network(), plan, task="digits")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ((3, 16, 16), r"the shape \(3, 16, 16\); give a batch of inputs, a tensor of shape \(2, 3, 16, 16\)"),
        ([2, 3, 16, 16], r"give a batch of inputs, a tensor of shape \(2, 3, 16, 16\)"),
        (np.zeros((2, 1, 8, 8)), "the example is ndarray; give a batch of inputs, a tensor$"),
    ],
)
def test_a_trace_needs_a_tensor_not_its_shape(example: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        secateur.trace(plain_network(), example)
