"""The features of filters and layers that an agent observes.

They do not depend on the scale of a network: filter features are standardised within their layer or ranked
over the network, and layer features are ratios. So an agent trained on one network can be applied to another.

Shapes: L layers, N filters of a layer, F features of a filter, G features of a layer.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ..tracing import TracedNetwork
from .importance import Scores
from .reconstruction import Reconstruction

Floats32 = npt.NDArray[np.float32]

STANDARDISED = ("l1", "l2", "bn", "bn_bias", "fpgm", "next_layer_l2", "taylor")
"""Scores used as z-scores within the layer, clipped to [-3, 3]."""

FILTER_FEATURES = (
    *STANDARDISED,
    "taylor_rank",
    "taylor_rank_network",
    "taylor_per_mac_rank_network",
    "reconstruction_rank",
    "reconstruction_rank_network",
    "taylor_per_mac_reordered",
    "fpgm_reordered",
)
"""Features of a filter. Ranks lie in [-1, 1]. Those that end in ``network`` are over all filters of the
network, the others within the layer. The last two are ranks over the network, too, Taylor score per MAC and
distance to the other filters as a share of the layer's mean, and each layer's ranks are given to its filters
in the order of reconstruction: the criterion says how many filters of a layer stay, the order which."""

STATIC_LAYER_FEATURES = (
    "depth", "width_share", "macs_share", "params_share", "producers", "sensitivity", "sensitivity_per_mac",
    "consumers", "consumers_share", "channels_per_filter",
    "error_quarter", "error_half", "error_three_quarters",
)  # fmt: skip
DYNAMIC_LAYER_FEATURES = ("spent", "undecided", "needed_keep_ratio", "kept_so_far", "target", "drop_bound")
LAYER_FEATURES = (*STATIC_LAYER_FEATURES, *DYNAMIC_LAYER_FEATURES)
"""Features of the current layer; see :func:`static_features` and
:class:`secateur.envs.environment.episode.Episode`."""

PRIOR = FILTER_FEATURES.index("taylor_per_mac_reordered")
"""The feature by which an untrained agent decides."""

RECONSTRUCTION = FILTER_FEATURES.index("reconstruction_rank")
"""The feature that ranks the filters of a layer in the order of reconstruction."""

ALLOCATIONS = (PRIOR, FILTER_FEATURES.index("fpgm_reordered"), RECONSTRUCTION)
"""Features whose order over the network is a decision by itself: filters in the order of reconstruction, and
as many of each layer as the Taylor score per MAC says, as the distance to the other filters says, or the same
share of each."""

LIMIT = 3.0
"""Every feature lies in [-LIMIT, LIMIT]."""


@dataclass(frozen=True)
class StaticFeatures:
    """The features that do not depend on decisions.

    Args:
        filters: One array (N, F) per layer.
        layers: Array (L, number of static layer features).
    """

    filters: list[Floats32]
    layers: Floats32


def static_features(
    network: TracedNetwork, scores: dict[str, Scores], reconstructions: Sequence[Reconstruction]
) -> StaticFeatures:
    """Compute features from importance scores and the network's shape.

    Args:
        network: A trace.
        scores: By criterion, one array (N,) per layer.
        reconstructions: The order of removal and the errors of each layer.
    """
    widths = network.widths
    saved_macs = network.macs.per_filter(widths)
    saved_params = network.params.per_filter(widths)
    taylor = scores["taylor"]
    per_mac = [score / max(cost, 1.0) for score, cost in zip(taylor, saved_macs, strict=True)]
    by_network, by_mac = _ranks_over_network(taylor), _ranks_over_network(per_mac)
    by_distance = _ranks_over_network([score / max(score.mean(), 1e-30) for score in scores["fpgm"]])
    orders = [own.ranks for own in reconstructions]
    by_error = _ranks_over_network(
        [own.errors[1:][order] for own, order in zip(reconstructions, orders, strict=True)]
    )
    filters = []
    for layer in range(len(widths)):
        columns = [_standardised(_even(name, scores[name][layer])) for name in STANDARDISED]
        columns += [_ranks(taylor[layer]), by_network[layer], by_mac[layer]]
        columns += [_ranks(orders[layer]), by_error[layer]]
        columns += [np.sort(ranks[layer])[orders[layer]] for ranks in (by_mac, by_distance)]
        filters.append(np.stack(columns, axis=1).astype(np.float32))
    layers = _layer_features(network, saved_macs, saved_params, taylor, per_mac, reconstructions)
    return StaticFeatures(filters, layers)


def _even(name: str, score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Take the root of the Taylor score, which is a square: else a few large values dominate the z-scores."""
    return np.sqrt(score) if name == "taylor" else score


def _layer_features(
    network: TracedNetwork,
    saved_macs: npt.NDArray[np.float64],
    saved_params: npt.NDArray[np.float64],
    taylor: Scores,
    per_mac: Scores,
    reconstructions: Sequence[Reconstruction],
) -> Floats32:
    widths = network.widths
    rows = [
        np.linspace(-1, 1, len(widths)) if len(widths) > 1 else np.zeros(1),
        _share(widths.astype(np.float64)),
        _share(saved_macs * widths),
        _share(saved_params * widths),
        np.array([np.log2(len(layer.producers)) for layer in network.layers]) / 2,
        _standardised(np.log([score.mean() + 1e-20 for score in taylor])),
        _standardised(np.log([score.mean() + 1e-30 for score in per_mac])),
        *_connections(network),
        *(_errors(reconstructions, share) for share in (0.25, 0.5, 0.75)),
    ]
    return np.clip(np.stack(rows, axis=1), -LIMIT, LIMIT).astype(np.float32)


def _connections(network: TracedNetwork) -> npt.NDArray[np.float64]:
    """Describe how each layer is connected, (3, L).

    The rows: the number of consumers; their channels from this layer as a share of all their channels, less
    than 1 where they read a concatenation; and the channels that a filter stands for, several in grouped
    convolutions. All are logarithms.
    """
    channels: dict[str, int] = defaultdict(int)
    for layer in network.layers:
        for where in layer.slices:
            if where.role == "input_channel":
                channels[where.parameter] += where.index.size
    columns = []
    for layer in network.layers:
        read = [where for where in layer.slices if where.role == "input_channel"]
        shares = [where.index.size / channels[where.parameter] for where in read]
        columns.append([max(1, len(read)), np.mean(shares or [1.0]), layer.main_slice.index.shape[1]])
    return np.asarray(np.log2(np.array(columns, np.float64).T) / 2)


def _errors(reconstructions: Sequence[Reconstruction], share: float) -> npt.NDArray[np.float64]:
    """Return each layer's error with a share of its filters removed, as a logarithm."""
    errors = [own.errors[round(share * (len(own.errors) - 1))] for own in reconstructions]
    return np.log10(np.maximum(errors, 1e-3)) + 1


def _share(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Divide each layer's value by the mean, on a log scale."""
    return np.log2(np.maximum(values / values.mean(), 1e-3)) / 2


def _standardised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    deviation = values.std()
    if not deviation > 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return np.zeros_like(values)
    return np.clip((values - values.mean()) / deviation, -LIMIT, LIMIT)


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Rank values from -1, the smallest, to 1."""
    return np.asarray(2 * (rankdata(values, "ordinal") - 1) / max(1, len(values) - 1) - 1)


def _ranks_over_network(scores: Scores) -> Scores:
    ranks = _ranks(np.concatenate(scores))
    return np.split(ranks, np.cumsum([len(score) for score in scores])[:-1])
