"""What a network gives back stays as it is, however it is wrapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.structures import tensors_in
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing import trace

INPUTS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, slots=True)
class Answer:
    logits: Tensor
    features: Any = None


class Features:
    def __init__(self, features: Any) -> None:
        self.features = features


class Network(nn.Module):
    """Two convolutions, of which the features of the second are given back in some way."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        features = self.second(self.first(x).relu()).relu()
        return self.wrap(self.head(features.mean((2, 3))), features)


def lazily(logits: Tensor, features: Tensor) -> Iterator[Tensor]:
    yield logits
    yield features


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits, features: Answer(logits, features),
        lambda logits, features: (logits, Features([features])),
        lambda logits, features: {"logits": logits, "more": Features({"last": features})},
        lambda logits, features: {logits, features},
        lambda logits, features: (logits, lambda: features),
        lambda logits, features: Answer(logits, features.numpy()),
    ],
    ids=["dataclass", "object", "dict of objects", "set", "function", "array"],
)
def test_features_that_are_given_back_stay_and_all_else_can_go(wrap: Callable[..., Any]) -> None:
    model = Network(wrap).eval()
    network = trace_exactly(model, INPUTS)
    assert [layer.name for layer in network.layers] == ["first"]
    half = PruningPlan.from_masks(network, [np.arange(6) < 3])
    with torch.no_grad():
        before, after = tensors_in(model(INPUTS)), tensors_in(cut(model, network, half).eval()(INPUTS))
    assert [x.shape for x in before] == [x.shape for x in after]


def test_an_object_with_the_logits_alone_hides_no_layer() -> None:
    network = trace(Network(lambda logits, _: Answer(logits)), INPUTS)
    assert [layer.name for layer in network.layers] == ["first", "second"]


def test_an_output_that_cannot_be_opened_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the network's output is a generator"):
        trace(Network(lazily), INPUTS)
