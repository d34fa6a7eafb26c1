"""Every tensor in what a network gives back is found, or what hides it is named."""

from __future__ import annotations

import enum
import functools
import threading
import types
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.outputs import main_and_auxiliary
from secateur.envs.modules.structures import named_tensors, tensors_in

FIRST, SECOND = torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])

Named = namedtuple("Named", "features logits")


class Plain:
    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


class Slotted:
    __slots__ = ("__hidden", "never_set", "shown")

    def __init__(self, shown: Any, hidden: Any) -> None:
        self.shown, self.__hidden = shown, hidden


@dataclass(frozen=True, slots=True)
class Frozen:
    first: Any
    second: Any = None


class LikeHuggingFace(OrderedDict):  # type: ignore[type-arg]
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Kind(enum.Enum):
    BOX = "box"


def cyclic() -> Plain:
    value = Plain(first=FIRST, inner=[SECOND])
    value.inner.append(value)
    return value


def closure() -> Callable[[], Tensor]:
    first, second = FIRST, SECOND
    return lambda: first + second


@pytest.mark.parametrize(
    "value",
    [
        (FIRST, [{"a": (SECOND,)}]),
        Named(FIRST, {"boxes": SECOND}),
        Plain(first=FIRST, inner=Plain(second=SECOND)),
        Slotted([FIRST], SECOND),
        Frozen(FIRST, Frozen(SECOND)),
        LikeHuggingFace(logits=FIRST, states=(SECOND,)),
        types.SimpleNamespace(first=FIRST, second=SECOND),
        deque([FIRST, SECOND]),
        {SECOND, FIRST},
        frozenset({FIRST, (SECOND, 1)}),
        types.MappingProxyType({"first": FIRST, SECOND: None}),
        np.array([FIRST, None, SECOND], dtype=object),
        [FIRST.numpy(), {"second": SECOND.numpy()}],
        functools.partial(torch.add, FIRST, other=SECOND),
        (FIRST.mean, Plain(method=SECOND.sum)),
        cyclic(),
        closure(),
        Plain(
            name="n", kind=Kind.BOX, size=FIRST.shape, dtype=torch.half, count=np.int64(3), a=FIRST, b=SECOND
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_tensors_are_found(value: Any) -> None:
    found = sorted(tensors_in(value), key=lambda tensor: tensor.ndim)
    assert [tensor.tolist() for tensor in found] == [[1.0, 2.0], [[3.0]]]


def test_a_tensor_that_is_given_twice_is_found_twice() -> None:
    assert len(tensors_in([FIRST, {"again": FIRST}])) == 2


def test_the_order_within_a_set_is_that_of_the_values() -> None:
    sets = [{torch.full((2,), float(k)) for k in order} for order in (range(20), reversed(range(20)))]
    assert [x.tolist() for x in tensors_in(sets[0])] == [x.tolist() for x in tensors_in(sets[1])]


def test_a_path_leads_to_each_tensor() -> None:
    value = {"aux": Plain(scores=[0, FIRST])}
    assert [path for path, _ in named_tensors(value)] == ["output['aux'].scores[1]"]


def test_parameters_of_a_module_that_is_given_back_are_no_outputs_but_its_activations_are() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    module[0].kept = FIRST  # type: ignore[assignment]
    assert [path for path, _ in named_tensors(module)] == ["output.0.kept"]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ((x for x in [FIRST]), "the network's output is a generator"),
        ([1, {"k": iter([FIRST])}], r"output\[1\]\['k'\] is a list_iterator"),
        (Plain(lazy=map(str, [FIRST])), "output.lazy is a map"),
        (FIRST.untyped_storage(), "is a UntypedStorage"),
        (Frozen(threading.Lock()), "output.first is a lock"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_its_name(value: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        tensors_in(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "main", "auxiliary"),
    [
        (Plain(features=SECOND, logits=FIRST), FIRST, []),
        (Frozen(None, FIRST), FIRST, []),
        (LikeHuggingFace(loss=None, logits=FIRST, hidden_states=(SECOND,)), FIRST, []),
        ({"logits": FIRST, "features": SECOND}, FIRST, []),
        ({"logits": FIRST, "aux": SECOND}, FIRST, [SECOND]),
        ({"out": FIRST, "logits": SECOND}, FIRST, []),
        (Named(SECOND, FIRST), FIRST, [SECOND]),
        (Named(FIRST.sigmoid(), FIRST), FIRST, []),
    ],
)
def test_the_main_output_is_found_by_name(outputs: Any, main: Tensor, auxiliary: list[Tensor]) -> None:
    found, others = main_and_auxiliary(outputs)
    assert found is main
    assert [other.tolist() for other in others] == [other.tolist() for other in auxiliary]


def test_an_object_with_several_tensors_and_no_main_one_is_refused_with_their_names() -> None:
    with pytest.raises(TypeError, match="a Frozen with 'first', 'second'; give a network that returns"):
        main_and_auxiliary(Frozen(FIRST, SECOND))
