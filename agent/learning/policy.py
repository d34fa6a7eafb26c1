"""The policy: one small network scores all filters of a layer of any width.

All filters are scored with the same weights, from their own features, the layer's features, and embeddings
pooled over the layer (Zaheer et al. 2017, "Deep Sets", arXiv 1703.06114). So decisions do not depend on the
order of the filters, and the same weights apply to any network. Different filters can have almost the same
features, so a scorer for a single network may also have preferences: one learned logit per filter.

Shapes: B observations, L layers, M slots, F filter features, G layer features, H hidden units, R filters of
all observations.
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

from ...envs.problem.features import LAYER_FEATURES, PRIOR

_NEEDED_KEEP_RATIO = LAYER_FEATURES.index("needed_keep_ratio")

_PRIOR = 4.0
"""Initial weight, as a logit, of the feature that an untrained agent decides by, in [-1, 1]. With the rank of
the Taylor score per MAC, before it was reordered, ResNet-20 at half the MACs had 23 % accuracy on val with 0,
73.6 % with 2 and 74.6 % with 4; reordered it has 78.7 % with 4."""

_NEEDED_KEEP_RATIO_RANGE = (0.02, 0.98)
"""Range to which needed keep ratios are clamped, as logits of 0 and 1 are infinite."""

LOGIT_LIMIT = 10.0
"""Largest absolute logit: keep probabilities stay 5e-5 away from 0 and 1, so that every filter can still be
learned."""

EMPTY_SLOT = 30.0
"""Logit of a slot without a filter: its log-probability and entropy are negligible (1e-13), its gradient is
0."""


class LayerBernoulli(BernoulliDistribution):
    """Independent keep decisions with log-probabilities scaled for the layer's width.

    PPO exponentiates differences of log-probabilities. With a shared scorer the sum over N filters changes N
    times as much as a single term, and the ratio is always clipped. Dividing by sqrt(N) makes the ratios of
    wide and narrow layers comparable.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the scaled log-probability of keep masks (B, M), shape (B,)."""
        return super().log_prob(actions) / self._filters().sqrt()

    def entropy(self) -> Tensor:
        """Return the mean entropy per filter, shape (B,)."""
        return super().entropy() / self._filters()

    def _filters(self) -> Tensor:
        return (self.distribution.logits < EMPTY_SLOT).sum(dim=-1).clamp_min(1)


class _PassThrough(BaseFeaturesExtractor):
    """Pass the observation's dictionary on to the scorer."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=1)

    def forward(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations


class FilterScorer(nn.Module):
    """Compute the logits of a layer's filters and the value of the state.

    The scorer's output is added to two terms: the logit of the keep ratio that the target requires from here
    on, and a prior. How many filters of each layer stay goes by their Taylor scores per MAC, which ones by
    the order of reconstruction. So an untrained agent roughly meets any target and is as good as a heuristic.
    Training learns the deviations from that.

    Args:
        filter_features: Number of features per filter, F.
        layer_features: Number of features per layer, G.
        hidden: Number of hidden units, H.
        preferences: Shape (L, M) of the preferences, which start at 0; None for a scorer without preferences.
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
        self.latent_dim_pi = 1  # the scores are the logits of the action
        self.latent_dim_vf = 1  # the value needs no further layer
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
            self.prior.weight[0, PRIOR] = _PRIOR

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits (B, M) and the values (B, 1)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: dict[str, Tensor]) -> Tensor:
        """Return the logits (B, M), with preferences added if the observation has a position."""
        # Only slots with filters are computed. What is the same for all filters of a layer is multiplied by
        # its part of the weights once, not once per filter.
        filters, layer, mask = features["filters"], features["layer"], features["mask"].bool()
        slots = mask.flatten().nonzero().squeeze(-1)  # (R,)
        rows = slots // mask.shape[1]  # the layer of each
        own = filters.flatten(0, 1).index_select(0, slots)  # (R, F)
        embedded = _joined(self.embed[0], own, layer, rows)  # (R, H)
        pooled = layer.new_zeros(len(layer), self.hidden).index_add(0, rows, embedded)
        pooled = pooled / mask.sum(1, keepdim=True).clamp_min(1)  # (B, H)
        hidden = _joined(self.score[0], embedded, torch.cat([pooled, layer], dim=-1), rows)
        scores = self.score[-1](hidden) + self.prior(own)  # (R, 1)
        logits = filters.new_zeros(mask.numel()).index_copy(0, slots, scores.squeeze(-1)).view(mask.shape)
        logits = logits + _offset(layer[:, _NEEDED_KEEP_RATIO : _NEEDED_KEEP_RATIO + 1])
        if self.preferences is not None and "position" in features:
            logits = (
                logits + self._preference_lr_scale * self.preferences[features["position"].squeeze(-1).long()]
            )
        return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).masked_fill(~mask, EMPTY_SLOT)

    @property
    def preference_lr_scale(self) -> float:
        """The learning rate of preferences as a multiple of that of all other weights."""
        return self._preference_lr_scale

    def set_preference_lr_scale(self, scale: float) -> None:
        """Scale the learning rate of preferences relative to all other weights, without changing the logits.

        Args:
            scale: Learning rate as a multiple of that of all other weights, > 0; it is 1 in new scorers and
                in files.
        """
        if self.preferences is not None:
            self.preferences.data *= self._preference_lr_scale / scale
        self._preference_lr_scale = scale

    def forward_critic(self, features: dict[str, Tensor]) -> Tensor:
        """Return the values, (B, 1)."""
        values: Tensor = self.value(features["layer"])
        return values


def _joined(linear: nn.Module, own: Tensor, common: Tensor, rows: Tensor) -> Tensor:
    """Apply a linear layer and tanh to each filter's own inputs joined with those common to its layer.

    Args:
        linear: The linear layer.
        own: Inputs of R filters, (R, I).
        common: Inputs of the layers, (B, J).
        rows: The layer of each filter, (R,).

    Returns:
        Shape (R, H).
    """
    assert isinstance(linear, nn.Linear)
    of_own, of_common = linear.weight[:, : own.shape[1]], linear.weight[:, own.shape[1] :]
    shift = nn.functional.linear(common, of_common, linear.bias)
    return torch.tanh(nn.functional.linear(own, of_own) + shift.index_select(0, rows))


def _offset(needed: Tensor) -> Tensor:
    """Return the logit at which the mean keep probability over uniform ranks in [-1, 1] is ``needed``.

    It is the solution ``a`` of ``(softplus(a + p) - softplus(a - p)) / 2p = needed``, where p is the prior.
    """
    exponent = 2 * _PRIOR * needed.clamp(*_NEEDED_KEEP_RATIO_RANGE)
    return torch.expm1(exponent).log() - (math.exp(_PRIOR) - torch.exp(exponent - _PRIOR)).log()


class FilterPolicy(ActorCriticPolicy):
    """SB3 policy with a :class:`FilterScorer`, for SB3's unmodified PPO.

    Args:
        observation_space: The environment's observation space.
        action_space: MultiBinary(M).
        lr_schedule: Learning rate schedule, as in SB3.
        hidden: Number of hidden units, H.
        layers: Number of layers of the preferences, L; None for a scorer without preferences.
        preference_lr_scale: Learning rate of preferences as a multiple of that of all other weights, > 0. SB3
            saves it with the policy, as the meaning of the saved preferences depends on it.
        **kwargs: Further arguments of SB3's policy.
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
