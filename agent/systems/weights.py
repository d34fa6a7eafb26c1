"""What the systems that prune single weights share: the masked copy they train, and what they report."""

from __future__ import annotations

import torch
from torch import nn

from ...envs.io.wording import counted
from ...envs.modules.copying import refresh_masked_weights, replica
from ...envs.sparsity import apply_masks, keep_masks, n_of_m_masks, prunable_weights, sparsity
from ...envs.surgery.plan import PruningPlan
from .base import Job, Result


def masked_copy(job: Job, *, straight_through: bool = False) -> nn.Module:
    """Copy the dense network of a job, with a mask on each of its prunable weights.

    Masks that the network has, from ``torch.nn.utils.prune`` too, are taken over; others keep everything.

    Args:
        job: The job.
        straight_through: Whether removed entries keep learning.
    """
    model = replica(job.model)
    held = keep_masks(model)
    masks = {
        name: held.get(name, torch.ones_like(weight, dtype=torch.bool))
        for name, weight in prunable_weights(model).items()
    }
    apply_masks(model, masks, straight_through=straight_through)
    return model


def share_left(model: nn.Module) -> float:
    """Return the share of the prunable weights that masks keep, in [0, 1]."""
    masks = [keep_masks(model)[name] for name in prunable_weights(model)]
    return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def sparse_result(
    job: Job, model: nn.Module, epochs: float, notes: tuple[str, ...] = (), **details: object
) -> Result:
    """Return the result of a system that pruned single weights.

    Args:
        job: The job.
        model: The masked network.
        epochs: Passes over the training images that were spent.
        notes: Sentences for the report, beside the one on what zeros save.
        **details: Numbers of the system, as JSON holds them.
    """
    refresh_masked_weights(model)
    masks = keep_masks(model)
    layers = {name: round(float(mask.float().mean()), 6) for name, mask in masks.items()}
    return Result(
        model.eval(),
        PruningPlan.dense(job.network),
        epochs,
        (what_zeros_save(model), *notes),
        {"sparsity": sparsity(model), "share_by_layer": layers, **details},
    )


def what_zeros_save(model: nn.Module) -> str:
    """Say what the zeros of a network save, and what they do not.

    Args:
        model: A network, masked or with zeros among its plain weights.
    """
    saved = "Zeros among the weights make the file smaller, nothing faster: dense kernels multiply by them."
    pattern = n_of_m_masks(model)
    weights = prunable_weights(model)
    fits = [name for name, mask in pattern.items() if not weights[name].detach()[~mask].any()]
    if not fits:
        return saved
    return (
        f"{saved} Two of four weights are zeros in {len(fits)} of {counted(len(weights), 'layer')}, which "
        "sparse kernels of NVIDIA GPUs from compute capability 8.0 on skip in fp16, bf16 and int8, if the "
        "network is converted for them."
    )
