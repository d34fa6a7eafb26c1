"""Score candidates on pieces of val: the statistics and the loss of a task.

Shapes: P images of a piece, N filters of a layer.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..modules.inputs import run_on_copy
from ..surgery.plan import Mask
from ..tasks.base import Task
from ..tasks.network_loss import measured_loss
from ..tasks.optional_members import has_loss
from .candidate_network import CandidateNetwork
from .shared_prefix import SharedPrefix


def read_pieces(candidates: CandidateNetwork, task: Task, indices: Tensor) -> tuple[list[Tensor], list[Any]]:
    """Read examples of val.

    Args:
        candidates: The network that candidates are derived from.
        task: The task.
        indices: Indices of the examples, int64.

    Returns:
        Pieces (P, C, H, W) with the data type and layout of the candidates; the targets of each, of any kind.
    """
    batches = [task.batch("val", part) for part in indices.split(candidates.piece_size)]
    return [candidates.converted(inputs) for inputs, _ in batches], [targets for _, targets in batches]


def scores(
    candidates: CandidateNetwork,
    task: Task,
    masks: Sequence[Mask],
    pieces: Sequence[Tensor],
    targets: Sequence[Any],
    shared: SharedPrefix | None = None,
) -> Iterator[tuple[Tensor, float]]:
    """Measure a candidate, in inference mode.

    Args:
        candidates: The network that candidates are derived from.
        task: The task.
        masks: One keep mask (N,) per layer.
        pieces: Images (P, C, H, W).
        targets: The targets of each piece.
        shared: The prefix shared with other candidates, or None.

    Returns:
        The task's statistics and the mean loss of each piece.
    """
    if has_loss(task):
        for outputs, wanted in zip(candidates.answers(masks, pieces, shared), targets, strict=True):
            yield task.statistics(outputs, wanted), float(task.loss(outputs, wanted))
        return
    model = candidates.re_estimated(masks)
    for piece, wanted in zip(pieces, targets, strict=True):
        statistics = task.statistics(run_on_copy(model, piece), wanted)
        yield statistics, float(measured_loss(task, model, piece, wanted))


def constant_prediction_loss(
    candidates: CandidateNetwork, task: Task, pieces: Sequence[Tensor], targets: Sequence[Any]
) -> float:
    """Compute the mean loss of a constant prediction; undefined if an output of the network is.

    That is the mean of the dense network's outputs. A network that computes its losses itself sees the mean
    image instead.

    Args:
        candidates: The network, with nothing masked.
        task: The task.
        pieces: Images (P, C, H, W).
        targets: The targets of each piece.
    """
    images, pairs = sum(map(len, pieces)), list(zip(pieces, targets, strict=True))

    def mean(sums: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(sums)).sum(0) / images

    if has_loss(task):
        answer = mean([candidates.dense_answer(piece).sum(0) for piece in pieces])
        if answer.isnan().any():
            return math.nan
        losses = [task.loss(answer.expand(len(x), *answer.shape), wanted) for x, wanted in pairs]
    else:
        image = mean([piece.sum(0) for piece in pieces])
        losses = [measured_loss(task, candidates.model, image.expand_as(x), wanted) for x, wanted in pairs]
    return sum(float(loss) * len(x) for loss, x in zip(losses, pieces, strict=True)) / images
