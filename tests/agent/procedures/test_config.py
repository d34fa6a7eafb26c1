"""What is asked for is refused by name where a number is out of its range, or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.envs.cost.config import LatencyConfig
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.surgery.constraints import Constraints


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda odd: PruningConfig(layer_epochs=odd), "layer_epochs is"),
        (lambda odd: PruningConfig(search_images=odd), "search_images is"),
        (lambda odd: PruningConfig(seed=odd), "seed is"),
        (lambda odd: PruningConfig(target_macs=odd), "the target is"),
        (lambda odd: PruningConfig(drop_bound=odd), "the drop bound is"),
        (lambda odd: LatencyConfig(batch=odd), "latency_batch is"),
        (lambda odd: LatencyConfig(threads=odd), "latency_threads is"),
        (lambda odd: Constraints(round_to={"*": odd}), "the multiple that filters are rounded to is"),
        (lambda odd: Constraints(max_sparsity={"*": odd}), "the largest sparsity is"),
    ],
)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -1])
def test_a_number_out_of_its_range_is_refused_by_name(
    make: Callable[[Any], object], said: str, odd: float
) -> None:
    with pytest.raises(ValueError, match=rf"^{said} {odd}(\.0)?; "):
        make(odd)


def test_a_seed_that_a_generator_does_not_take_is_refused_before_anything_begins() -> None:
    with pytest.raises(ValueError, match="seed is 4294967296; allowed is 0 to 4294967295"):
        PruningConfig(seed=2**32)
    PruningConfig(seed=2**32 - 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"procedure": "layerwise", "minutes": 1}, "layerwise gives the agent of each layer a share"),
        ({"layer_epochs": 3}, "^layer_epochs is for procedure layerwise; leave it out, or give both$"),
        ({"procedure": "layerwise", "quantize": "int8"}, "layerwise measures and trains its layers in float"),
    ],
)
def test_options_that_a_procedure_does_not_have_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PruningConfig(**options)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RecoveryConfig(epochs=True), "epochs is True; allowed is at least 0, a whole number"),
        (lambda: RecoveryConfig(weight_decay=True), "weight_decay is True; allowed is at least 0, a finite"),
        (lambda: RecoveryConfig(momentum=True), "momentum is True; allowed is 0 to 1, a finite number"),
        (lambda: PruningConfig(drop_blocks=True), "drop_blocks is True; allowed is at least 0, a whole"),
        (lambda: PruningConfig(round_to=True), "round_to is True; give texts or numbers"),  # type: ignore[arg-type]
    ],
)
def test_true_is_no_number(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ()),
        ("conv1", ("conv1",)),
        ({"b", "a"}, ("a", "b")),
        (iter(["b", "a"]), ("b", "a")),
        (dict.fromkeys(["b", "a"]).keys(), ("b", "a")),
        (np.array(["b", "a"]), ("b", "a")),
        (0, ("0",)),
    ],
)
def test_patterns_are_one_text_or_several_of_any_kind(given: Any, words: tuple[str, ...]) -> None:
    assert PruningConfig(protect=given).protect == words


@pytest.mark.parametrize("odd", [b"conv1", [None], object(), [["conv1"]], nn.ReLU(), True])
def test_what_is_no_pattern_is_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match=r"^protect is .*; give texts or numbers, one or several of them$"):
        PruningConfig(protect=odd)
