"""What a recipe promises: what is given counts, what is not follows from the length of the training."""

from __future__ import annotations

import dataclasses
import math

import pytest

from secateur.agent.procedures.config import PruningConfig
from secateur.envs.recovery.config import EPOCHS, LONG, Recipe, RecoveryConfig
from secateur.envs.recovery.schedules import learning_rate_factor

SHORT = Recipe(10, "one-cycle", 0.02, 0.2)


def test_a_short_training_is_one_cycle_and_a_long_one_rewinds() -> None:
    assert RecoveryConfig().recipe == RecoveryConfig(epochs=10).recipe == SHORT
    assert RecoveryConfig(epochs=LONG - 1).recipe == dataclasses.replace(SHORT, epochs=LONG - 1)
    long = RecoveryConfig(epochs=LONG).recipe
    assert (long.schedule, long.learning_rate, long.warmup) == ("rewinding", 0.1, 0.05)


@pytest.mark.parametrize("epochs", [10, 90])
@pytest.mark.parametrize("name", ["learning_rate", "warmup"])
def test_what_is_given_counts_for_any_length_even_zero(epochs: int, name: str) -> None:
    for value in (0.25, *([0.0] if name != "learning_rate" else [])):
        config = RecoveryConfig(epochs=epochs, **{name: value})
        assert getattr(config.recipe, name) == value
        others = dataclasses.replace(config.recipe, **{name: 0.5})
        assert others == dataclasses.replace(RecoveryConfig(epochs=epochs).recipe, **{name: 0.5})


def test_a_chosen_schedule_brings_its_rate_and_its_warm_up() -> None:
    rewound = RecoveryConfig(schedule="rewinding").recipe
    assert (rewound.learning_rate, rewound.warmup) == (0.1, 0.05)
    cycle = RecoveryConfig(epochs=90, schedule="one-cycle", optimiser="adamw").recipe
    assert (cycle.learning_rate, cycle.warmup) == (1e-3, 0.2)


@pytest.mark.parametrize("effort", EPOCHS)
def test_an_effort_sets_the_epochs_that_are_not_given(effort: str) -> None:
    assert PruningConfig(effort=effort).recovery.recipe.epochs == EPOCHS[effort]  # type: ignore[arg-type]
    assert PruningConfig(effort=effort, epochs=3).recovery.recipe.epochs == 3  # type: ignore[arg-type]
    assert PruningConfig(effort=effort, epochs=0).recovery.epochs == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("total", range(1, 12))
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.2, 0.9])
def test_the_rate_rises_to_one_and_falls_for_any_length(total: int, warmup: float) -> None:
    rates = [learning_rate_factor(step, total, warmup) for step in range(total)]
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1 or total == 1 or warmup == 0.9


def test_the_rate_rises_linearly_from_a_25th_and_falls_by_a_cosine_to_zero() -> None:
    rates = [learning_rate_factor(step, 100, 0.2) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[10] == pytest.approx((0.04 + 1) / 2)
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[40] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rates[100] == pytest.approx(0)


def test_without_warm_up_the_first_rate_is_the_largest() -> None:
    assert [learning_rate_factor(step, 2, 0.0) for step in range(2)] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("name", ["train_on_val", "compile"])
def test_a_switch_is_true_or_false(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 'yes'; give true or false$"):
        RecoveryConfig(**{name: "yes"})


@pytest.mark.parametrize(
    ("name", "given", "names"),
    [
        ("schedule", "onecycle", "did you mean 'one-cycle'[?]; give one-cycle, rewinding"),
        ("distillation", "kl", "give soft-targets, logits, similarity, relational"),
        ("precision", "f16", "give auto, bf16, fp16, fp32"),
        ("precision", None, "give auto, bf16, fp16, fp32"),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(name: str, given: object, names: str) -> None:
    with pytest.raises(ValueError, match=f"^there is no {name} .*{names}$"):
        RecoveryConfig(**{name: given})
