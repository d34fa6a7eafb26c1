"""The policy: a small network that scores every filter of a layer of any width.

Shared weights score each filter from its features, the layer's features, and features pooled over the layer's
filters (Zaheer et al. 2017, "Deep Sets", arXiv 1703.06114). So the decision does not depend on the filters'
order, and the same weights work for any network. Features do not distinguish filters completely. Therefore a
scorer for a single network may also learn a preference per filter, a number that only decisions about this
filter train.

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
"""Logit difference between the network's best and median filter by Taylor score per MAC. At half the MACs of
ResNet-20, an untrained agent has 23 % on val without it, 73.6 % with 2 and 74.6 % with 4."""

_PLAUSIBLE = (0.02, 0.98)
"""Range of keep ratios that an untrained agent follows; the logits of 0 and 1 are infinite."""

LOGIT_LIMIT = 10.0
"""Largest absolute logit: keep probabilities stay 5e-5 away from 0 and 1, so that decisions can change."""

EMPTY_SLOT = 30.0
"""Logit of a slot without a filter: its log-probability and entropy vanish (1e-13), its gradient is 0."""


class LayerBernoulli(BernoulliDistribution):
    """Independent keep decisions, with a log-probability that does not grow with the layer's width.

    PPO exponentiates differences of log-probabilities. With a shared scorer, the sum over N filters changes N
    times as much as one filter's and saturates the clip. Dividing by sqrt(N) makes the probability ratios of
    wide and narrow layers similar.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the scaled log-probability of keep masks (B, M), shape (B,)."""
        return super().log_prob(actions) / self._filters().sqrt()

    def entropy(self) -> Tensor:
        """Return the mean entropy of a filter's decision, shape (B,)."""
        return super().entropy() / self._filters()

    def _filters(self) -> Tensor:
        return (self.distribution.logits < EMPTY_SLOT).sum(dim=-1).clamp_min(1)


class _PassThrough(BaseFeaturesExtractor):
    """Pass the observation's dictionary on unchanged, as the scorer needs its parts."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=1)

    def forward(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations


class FilterScorer(nn.Module):
    """Compute the logits of keeping filters, and the value of the state.

    The learned logits are added to a prior: the logit of the keep ratio that would meet the target in the
    remaining layers, plus a term from the filters' Taylor scores per MAC. So an untrained agent about meets
    any target and is as good as a heuristic. The agent learns where and how far to deviate from that.

    Args:
        filter_features: Number of filter features, F.
        layer_features: Number of layer features, G.
        hidden: Number of hidden units, H.
        preferences: Shape (L, M) of preferences for the filters of one network, initially 0; None for none.
    """

    def __init__(
        self,
        filter_features: int,
        layer_features: int,
        hidden: int,
        preferences: tuple[int, ...] | None = None,
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
        self._rate = 1.0  # logit of a unit of preference
        last = self.score[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01 / math.sqrt(hidden))
        nn.init.zeros_(last.bias)
        nn.init.zeros_(self.prior.weight)
        with torch.no_grad():
            self.prior.weight[0, _TAYLOR_PER_MAC] = _PRIOR

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits (B, M) and the values (B, 1)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: dict[str, Tensor]) -> Tensor:
        """Return the logits, (B, M), including preferences if the observation has a position."""
        filters, layer, mask = features["filters"], features["layer"], features["mask"].bool()
        wide = layer.unsqueeze(1).expand(-1, filters.shape[1], -1)  # (B, M, G)
        embedded = self.embed(torch.cat([filters, wide], dim=-1))  # (B, M, H)
        weight = mask.unsqueeze(-1).float()
        pooled = (embedded * weight).sum(1) / weight.sum(1).clamp_min(1)  # (B, H)
        context = torch.cat([pooled, layer], dim=-1).unsqueeze(1).expand(-1, filters.shape[1], -1)
        logits = self.score(torch.cat([embedded, context], dim=-1)) + self.prior(filters)
        logits = logits.squeeze(-1) + _offset(layer[:, _NEEDED : _NEEDED + 1])
        if self.preferences is not None and "position" in features:
            logits = logits + self._rate * self.preferences[features["position"].squeeze(-1).long()]
        return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).masked_fill(~mask, EMPTY_SLOT)

    def set_preference_lr_scale(self, rate: float) -> None:
        """Scale the learning rate of the preferences relative to all other weights.

        The preferences' contribution to the logits does not change.

        Args:
            rate: Factor of the learning rate, > 0; it is 1 for a new scorer, and in files.
        """
        if self.preferences is not None:
            self.preferences.data *= self._rate / rate
        self._rate = rate

    def forward_critic(self, features: dict[str, Tensor]) -> Tensor:
        """Return the values, (B, 1)."""
        values: Tensor = self.value(features["layer"])
        return values


def _offset(needed: Tensor) -> Tensor:
    """Return the logit at which the mean keep probability over uniform ranks in [-1, 1] is ``needed``.

    It solves ``(softplus(a + p) - softplus(a - p)) / 2p = needed`` for ``a``, where p is the prior.
    """
    exponent = 2 * _PRIOR * needed.clamp(*_PLAUSIBLE)
    return torch.expm1(exponent).log() - (math.exp(_PRIOR) - torch.exp(exponent - _PRIOR)).log()


class FilterPolicy(ActorCriticPolicy):
    """Wrap :class:`FilterScorer` as an SB3 policy for the standard PPO.

    Args:
        observation_space: The environment's observation space.
        action_space: MultiBinary(M).
        lr_schedule: Learning rate schedule of SB3.
        hidden: Number of hidden units, H.
        layers: Number of layers, L, of the network for which preferences are learned; None for none.
        **kwargs: Further arguments of SB3's policy.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        hidden: int = 64,
        layers: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.hidden, self.layers = hidden, layers
        kwargs |= {"features_extractor_class": _PassThrough, "ortho_init": False}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        filters, layer = self.observation_space["filters"].shape, self.observation_space["layer"].shape
        assert filters is not None
        assert layer is not None
        preferences = None if self.layers is None else (self.layers, filters[0])
        self.mlp_extractor = FilterScorer(filters[1], layer[0], self.hidden, preferences)  # type: ignore[assignment]

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
        return parameters | {"hidden": self.hidden, "layers": self.layers}
