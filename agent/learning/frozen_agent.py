"""Trained agents as deciders, and their two files, which are safe to load from untrusted sources.

Shapes: K candidates, L layers, N filters of a layer, M slots.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...envs.environment.episode import Episode
from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import AGENT_CARD, AGENT_WEIGHTS
from ...envs.io.tensor_files import check_numbers, read_tensors, write_tensors
from ...envs.io.untrusted import parse_json, read_text, short
from ...envs.problem.features import ALLOCATIONS, FILTER_FEATURES, LAYER_FEATURES
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask
from ...rewards import FunctionReward, Reward, Size, TargetReward
from ..deciders.base import Budget
from ..deciders.baselines import keep_highest
from .budget_matching import Draws, Floats, Proposals, decide_layer, masks_from_logits, match_budget
from .config import PRETRAINED
from .policy import FilterScorer

AGENT_FORMAT = "secateur-agent-3"


@dataclass(frozen=True)
class FrozenAgent:
    """Prune any network to any size with a trained agent that learns no further.

    One number is added to the logits of all filters and found by bisection so that the size is met; the order
    of the filters and the ratios between layers are the agent's. There are two ways, and either can be much
    better than the other. The shift is applied during the episode, so that later decisions observe the budget
    that it left; or the logits of an episode without shift are recorded and shifted afterwards. Preferences
    for single filters are used only on the network in which they were learned.

    Args:
        scorer: The trained scorer.
        trained_on: Description of the training: networks, task, reward and so on.
        samples: Candidates sampled from the policy in addition to its deterministic decisions, half of them
            each way.
        seed: Seed of the samples.
    """

    scorer: FilterScorer
    trained_on: dict[str, Any] = field(default_factory=dict)
    samples: int = 16
    seed: int = 0

    deterministic: ClassVar[int] = 2 + len(ALLOCATIONS)
    """Proposals besides the samples; see :meth:`decide`."""

    @property
    def name(self) -> str:
        """The method's name in tables."""
        return "ppo"

    @property
    def origin(self) -> str:
        """The networks and the task of the training, in words."""
        card = self.trained_on
        networks = card.get("networks")
        names = ", ".join(map(str, networks)) if isinstance(networks, list) else "an unknown network"
        return f"trained on {short(names)} ({short(str(card.get('task', 'unknown data')))})"

    def state(self, problem: PruningProblem | None) -> dict[str, Tensor]:
        """Return the scorer's state dict.

        Args:
            problem: The problem to train on; preferences for filters of another network are left out. None
                leaves out all preferences.
        """
        state = self.scorer.state_dict()
        if problem is None or not self._has_preferences_for(problem):
            state.pop("preferences", None)
        return state

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Propose, in both ways, the deterministic decision (top-k with the expected count) and samples.

        The last proposals are those that an agent starts from, without what it has learned: filters in the
        order of reconstruction, with three allocations (:data:`.features.ALLOCATIONS`).
        """
        budget, reward = Budget(problem.network, target, size), self._observed_reward(target, size)
        generator = np.random.default_rng(self.seed)
        half = self.samples // 2
        # Random numbers that do not change with the shift make a sample's size monotone in the shift.
        draws, others = (
            [generator.random((samples, layer.filters)) for layer in problem.network.layers]
            for samples in (self.samples - half, half)
        )
        layers = problem.network.layers
        _, logits = self._run_episodes(problem, reward, np.zeros(1 + half), others)
        return [
            *match_budget(
                budget, 1 + self.samples - half, lambda by: self._run_episodes(problem, reward, by, draws)
            ),
            *match_budget(
                budget, 1 + half, lambda by: (masks_from_logits(layers, logits, by, others), logits)
            ),
            *(
                keep_highest(budget, [own[:, feature] for own in problem.features.filters])
                for feature in ALLOCATIONS
            ),
        ]

    def _observed_reward(self, target: float, size: Size) -> Reward:
        """Return a reward with what the agent observed in training; one trained for a bound saw no target."""
        trained = self.trained_on.get("reward", {})
        bound = trained.get("drop_bound")
        saw_target = trained["target"] is not None if "target" in trained else bound is None
        # The episodes measure nothing, so the reward is only observed, never called.
        return FunctionReward(TargetReward(target, size), target if saw_target else None, bound, size)

    @torch.inference_mode()
    def _run_episodes(
        self, problem: PruningProblem, reward: Reward, logit_shifts: Floats, draws: Draws
    ) -> Proposals:
        """Run K episodes in lock-step; the first is deterministic, the others are sampled with the draws."""
        slots = int(problem.network.widths.max())
        has_preferences = self._has_preferences_for(problem)
        episodes = [Episode(problem, reward, slots) for _ in logit_shifts]
        logits: list[list[Floats]] = [[] for _ in episodes]
        for layer in problem.network.layers:
            observations = [episode.observe() for episode in episodes]
            observation = {
                key: torch.from_numpy(np.stack([o[key] for o in observations]))
                for key in observations[0]
                if has_preferences or key != "position"
            }
            scores = self.scorer.forward_actor(observation)[:, : layer.filters].double().numpy()  # (K, N)
            position = episodes[0].position
            for k, episode in enumerate(episodes):
                logits[k].append(scores[k])
                episode.decide(
                    decide_layer(layer, scores[k], logit_shifts[k], draws[position][k - 1] if k else None)
                )
        return [episode.masks for episode in episodes], logits

    def _has_preferences_for(self, problem: PruningProblem) -> bool:
        """Return whether the agent's preferences were learned on this network."""
        preferences, widths = self.scorer.preferences, problem.network.widths
        return (
            preferences is not None
            and preferences.shape == (len(widths), widths.max())
            and self.trained_on.get("preferences") == problem.fingerprint
        )

    def save(self, folder: Path) -> None:
        """Write ``agent.safetensors`` and ``agent.json`` into an existing folder."""
        card = {
            "format": AGENT_FORMAT,
            "filter_features": list(FILTER_FEATURES),
            "layer_features": list(LAYER_FEATURES),
            "hidden": self.scorer.hidden,
            "trained_on": self.trained_on,
        }
        write_tensors(folder / AGENT_WEIGHTS, self.scorer.state_dict())
        write_atomically(folder / AGENT_CARD, lambda path: path.write_text(json.dumps(card, indent=2) + "\n"))

    @classmethod
    def load(cls, folder: str | Path, *, seed: int = 0) -> "FrozenAgent":
        """Read what :meth:`save` wrote.

        Args:
            folder: Folder of the agent's files, or :data:`PRETRAINED`.
            seed: Seed of the samples.

        Raises:
            ValueError: If there is no agent, it was trained on other features, or its weights are damaged.
        """
        folder = Path(__file__).parents[1] / PRETRAINED if folder == PRETRAINED else Path(folder)
        card_path, weights_path = folder / AGENT_CARD, folder / AGENT_WEIGHTS
        for path in (card_path, weights_path):
            if not path.is_file():
                raise ValueError(_missing(path))
        text = read_text(card_path)
        try:
            card = parse_json(text)
        except ValueError as error:
            raise ValueError(f"the agent in {folder} cannot be read: {error}") from error
        try:
            hidden, trained_on = _check_card(card)
        except ValueError as error:
            raise ValueError(f"the agent in {folder} {error}") from error
        state, _ = read_tensors(weights_path)
        preferences = tuple(state["preferences"].shape) if "preferences" in state else None
        with torch.device("meta"):  # no memory is allocated for a size that is not yet checked
            scorer = FilterScorer(len(FILTER_FEATURES), len(LAYER_FEATURES), hidden, preferences)
        expected = scorer.state_dict()
        if {k: t.shape for k, t in expected.items()} != {k: t.shape for k, t in state.items()}:
            raise ValueError(
                f"the weights of the agent in {folder} do not fit its description in agent.json; "
                "take both files from the same run, or train the agent again with `secateur train`"
            )
        check_numbers(state, expected, f"the weights of the agent in {folder}")
        scorer.load_state_dict({name: tensor.float().clone() for name, tensor in state.items()}, assign=True)
        return cls(scorer, trained_on, seed=seed)


def _missing(path: Path) -> str:
    """Return the message for a missing file of an agent; it explains why SB3's zip files are not loaded."""
    folder = path.parent
    if folder.suffix == ".zip" or any(folder.glob("*.zip")) or any(folder.glob("checkpoints/*.zip")):
        return (
            f"{path} does not exist, and a zip file of Stable-Baselines3 is not loaded as an agent: it is a "
            "pickle, which can run code; --agent needs agent.json and agent.safetensors"
        )
    return f"{path} does not exist; --agent needs the folder of a `secateur train` or PPO run"


def _check_card(card: Any) -> tuple[int, dict[str, Any]]:
    """Check ``agent.json`` and return the number of hidden units and the description of the training.

    Raises:
        ValueError: If the content is invalid or for other features. The message is a predicate: it continues
            "the agent in FOLDER".
    """
    if not isinstance(card, dict) or card.get("format") != AGENT_FORMAT:
        given = card.get("format") if isinstance(card, dict) else None
        found = "has no format in agent.json" if given is None else f"has the format {short(repr(given))}"
        raise ValueError(
            f"{found}; this version reads {AGENT_FORMAT!r}: train a new one with `secateur train`, or give "
            "--agent pretrained"
        )
    expected = {"filter_features": list(FILTER_FEATURES), "layer_features": list(LAYER_FEATURES)}
    if {key: card.get(key) for key in expected} != expected:
        raise ValueError("uses other features than this version; train a new one with `secateur train`")
    hidden, trained_on = card.get("hidden"), card.get("trained_on", {})
    if type(hidden) is not int or not 1 <= hidden <= 4096:
        raise ValueError(f"names {short(repr(hidden))} hidden units; allowed are 1 to 4096")
    reward = trained_on.get("reward", {}) if isinstance(trained_on, dict) else None
    if not isinstance(reward, dict):
        raise ValueError("has no object under 'trained_on', or none under its 'reward'")
    bound = reward.get("drop_bound")
    if bound is not None and not (type(bound) in (int, float) and 0 < bound <= 100):
        raise ValueError(f"was trained for a drop bound of {short(repr(bound))}; allowed is up to 100 points")
    return hidden, trained_on
