"""The policy: one small network scores every filter of a layer of any width.

Filters are scored by shared weights from their own features, the layer's, and what is pooled over the layer's
filters (Zaheer et al. 2017, "Deep Sets", arXiv 1703.06114), so the decision does not depend on the filters'
order and the same weights serve any network. Features do not tell filters apart entirely; so on one network
alone a scorer may have a preference for each filter too, a number that only decisions about it teach.

Shapes: B observations, L layers, M slots, F filter features, G layer features, H hidden units.
"""

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import BernoulliDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from ...envs.problem.features import FILTER_FEATURES, LAYER_FEATURES

_NEEDED = LAYER_FEATURES.index("needed_keep_ratio")
_TAYLOR_PER_MAC = FILTER_FEATURES.index("taylor_per_mac_rank_network")

_PRIOR = 4.0
"""Logit between the first and the middle of the network's filters by Taylor score for their MACs. Untrained,
ResNet-20 at half the MACs has 23 % on val without it, 73.6 % with 2 and 74.6 % with 4."""

_PLAUSIBLE = (0.02, 0.98)
"""Keep ratios that an untrained agent follows; logits of 0 and 1 are infinite."""

LOGIT_LIMIT = 10.0
"""Keep probabilities stay within 5e-5 of 0 and 1, so that no filter is beyond learning."""

EMPTY_SLOT = 30.0
"""Logit of a slot without a filter: its log-probability and entropy vanish (1e-13), its gradient is 0."""


class LayerBernoulli(BernoulliDistribution):
    """Independent keep decisions, with a log-probability that does not grow with the layer's width.

    PPO exponentiates differences of log-probabilities; the sum over N filters of a shared scorer moves N
    times as far as one of them and saturates the clip. Dividing by sqrt(N) keeps the ratio of wide and narrow
    layers alike.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        """Give the scaled log-probability of keep masks (B, M), shape (B,)."""
        return super().log_prob(actions) / self._filters().sqrt()

    def entropy(self) -> Tensor:
        """Give the mean entropy of a filter's decision, shape (B,)."""
        return super().entropy() / self._filters()

    def _filters(self) -> Tensor:
        return (self.distribution.logits < EMPTY_SLOT).sum(dim=-1).clamp_min(1)


class _PassThrough(BaseFeaturesExtractor):
    """Hand the observation's dictionary on; the scorer takes it apart."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=1)

    def forward(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations


class FilterScorer(nn.Module):
    """Score filters, and say what the state is worth.

    The logits are added to that of the keep ratio which would meet the target from here on, and to what the
    filters' Taylor scores for their MACs say: an untrained agent keeps about what any target wants, and is as
    good as a heuristic. Where and how far to deviate from that is learned.

    Args:
        filter_features: F.
        layer_features: G.
        hidden: H.
        preferences: (L, M) of the network whose filters are preferred one by one, from 0 on; None for any.
        preference_lr_scale: See :meth:`set_preference_lr_scale`.
    """

    def __init__(
        self,
        filter_features: int,
        layer_features: int,
        hidden: int,
        preferences: tuple[int, ...] | None = None,
        preference_lr_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.latent_dim_pi = 1  # the scores are the action's logits already
        self.latent_dim_vf = 1  # and the value is the value
        self.hidden = hidden
        self.embed = nn.Sequential(nn.Linear(filter_features + layer_features, hidden), nn.Tanh())
        self.score = nn.Sequential(
            nn.Linear(2 * hidden + layer_features, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )
        self.prior = nn.Linear(filter_features, 1, bias=False)
        self.value = nn.Sequential(
            nn.Linear(layer_features, hidden), nn.Tanh(),
            nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        self.preferences = None if preferences is None else nn.Parameter(torch.zeros(preferences))
        self._preference_lr_scale = preference_lr_scale  # also the logit of a unit of preference
        last = self.score[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01 / math.sqrt(hidden))
        nn.init.zeros_(last.bias)
        nn.init.zeros_(self.prior.weight)
        with torch.no_grad():
            self.prior.weight[0, _TAYLOR_PER_MAC] = _PRIOR

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Give the logits (B, M) and the values (B, 1)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: dict[str, Tensor]) -> Tensor:
        """Give the logits, (B, M); by preferences too where a position is seen."""
        filters, layer, mask = features["filters"], features["layer"], features["mask"].bool()
        wide = layer.unsqueeze(1).expand(-1, filters.shape[1], -1)  # (B, M, G)
        embedded = self.embed(torch.cat([filters, wide], dim=-1))  # (B, M, H)
        weight = mask.unsqueeze(-1).float()
        pooled = (embedded * weight).sum(1) / weight.sum(1).clamp_min(1)  # (B, H)
        context = torch.cat([pooled, layer], dim=-1).unsqueeze(1).expand(-1, filters.shape[1], -1)
        logits = self.score(torch.cat([embedded, context], dim=-1)) + self.prior(filters)
        logits = logits.squeeze(-1) + _offset(layer[:, _NEEDED : _NEEDED + 1])
        if self.preferences is not None and "position" in features:
            logits = (
                logits + self._preference_lr_scale * self.preferences[features["position"].squeeze(-1).long()]
            )
        return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).masked_fill(~mask, EMPTY_SLOT)

    @property
    def preference_lr_scale(self) -> float:
        """By how much faster preferences are learned than all other weights."""
        return self._preference_lr_scale

    def set_preference_lr_scale(self, scale: float) -> None:
        """Have each step of an optimiser move preferences by a multiple of what it moves all other weights.

        What the preferences say stays.

        Args:
            scale: That multiple, > 0; it is 1 where a scorer is made, and where it is kept on disk.
        """
        if self.preferences is not None:
            self.preferences.data *= self._preference_lr_scale / scale
        self._preference_lr_scale = scale

    def forward_critic(self, features: dict[str, Tensor]) -> Tensor:
        """Give the values, (B, 1)."""
        values: Tensor = self.value(features["layer"])
        return values


def _offset(needed: Tensor) -> Tensor:
    """Give the logit at which a keep ratio is met in the mean over ranks that are uniform in [-1, 1].

    It solves ``(softplus(a + p) - softplus(a - p)) / 2p = needed`` for ``a``, p being the prior.
    """
    exponent = 2 * _PRIOR * needed.clamp(*_PLAUSIBLE)
    return torch.expm1(exponent).log() - (math.exp(_PRIOR) - torch.exp(exponent - _PRIOR)).log()


class FilterPolicy(ActorCriticPolicy):
    """An SB3 policy around :class:`FilterScorer`; stock PPO trains it.

    Args:
        observation_space: As the environment's.
        action_space: MultiBinary(M).
        lr_schedule: SB3's.
        hidden: H.
        layers: L of the network whose filters are preferred one by one; None for any.
        preference_lr_scale: By how much faster preferences are learned than all other weights, > 0. SB3 keeps
            it with the policy: without it the preferences of a saved one would say something else.
        **kwargs: For SB3.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        hidden: int = 64,
        layers: int | None = None,
        preference_lr_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.hidden, self.layers, self._preference_lr_scale = hidden, layers, preference_lr_scale
        kwargs |= {"features_extractor_class": _PassThrough, "ortho_init": False}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        filters, layer = self.observation_space["filters"].shape, self.observation_space["layer"].shape
        assert filters is not None
        assert layer is not None
        preferences = None if self.layers is None else (self.layers, filters[0])
        self.mlp_extractor = FilterScorer(  # type: ignore[assignment]
            filters[1], layer[0], self.hidden, preferences, self._preference_lr_scale
        )

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.action_space, spaces.MultiBinary)
        self.action_dist = LayerBernoulli(int(np.prod(self.action_space.shape)))
        super()._build(lr_schedule)
        self.action_net, self.value_net = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        for name in ("features_extractor_class", "ortho_init"):
            parameters.pop(name)
        return parameters | {
            "hidden": self.hidden,
            "layers": self.layers,
            "preference_lr_scale": self._preference_lr_scale,
        }
