"""A hash of the weights of a network."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_digest(*models: nn.Module, prefix: str = "") -> str:
    """Return a hash of the names and values of all tensors in the state of networks.

    Args:
        *models: The networks.
        prefix: A text that is hashed first.
    """
    digest = hashlib.sha1(prefix.encode())
    for model in models:
        for name, tensor in _tensors(model):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    # Modules may store other objects in it.
    return ((name, value) for name, value in model.state_dict().items() if isinstance(value, torch.Tensor))
