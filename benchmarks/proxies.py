"""Repairs of a cut network that are fast enough for a search; the repaired networks are measured as proxies.

Shapes: B images, P positions, C channels before and K after a cut.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.envs.modules.copying import replica
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.compensation import Compensation
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tracing import TracedNetwork

STEPS = 32
"""Number of steps of the shortest fine-tuning, with 128 images each."""

SAMPLES = 16
"""Sampled positions per feature map in least-squares fits, on 256 images."""


@dataclass(frozen=True)
class Setting:
    """A dense network and the means to repair its candidates.

    Args:
        dense: The dense network.
        network: Its trace.
        task: Data and metric.
        cotrained: The same network, trained together with its sub-networks.
        compensation: Compensation of the dense network.
    """

    dense: nn.Module
    network: TracedNetwork
    task: ClassificationTask
    cotrained: nn.Module
    compensation: Compensation


def bare(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Cut without any repair."""
    return cut(setting.dense, setting.network, PruningPlan.from_masks(setting.network, masks))


def batchnorm(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Re-estimate batch-norm statistics on 512 augmented training images."""
    return _reestimated(bare(setting, masks), setting)


def bias(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Add the mean contribution of removed channels to the next layer's bias."""
    model = bare(setting, masks)
    for module, kept, inputs in _readers(setting, masks, model):
        with torch.no_grad():
            before = kept.dense(inputs)[:, kept.outputs]
            after = module(inputs[:, kept.inputs])
        missing = (before - after).transpose(0, 1).flatten(1).mean(1)
        own = module.bias.detach() if module.bias is not None else torch.zeros_like(missing)
        module.bias = nn.Parameter(own + missing)
    return model


def bias_batchnorm(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Correct the bias, then re-estimate batch-norm statistics."""
    return _reestimated(bias(setting, masks), setting)


def compensation_batchnorm(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Compensate with kept channels, as ``secateur prune`` does."""
    plan = PruningPlan.from_masks(setting.network, masks)
    compensated = setting.compensation.compensated_copy(setting.dense, masks)
    return _reestimated(cut(compensated, setting.network, plan), setting)


def least_squares(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Fit the consumers of a cut layer to the dense outputs (He et al. 2017, arXiv 1707.06168)."""
    model = bare(setting, masks)
    for module, kept, inputs in _readers(setting, masks, model):
        with torch.no_grad():
            wanted = _rows(kept.dense(inputs)[:, kept.outputs])  # (B, P, K)
            seen = _windows(module, inputs[:, kept.inputs])  # (B, P, C * kernel)
            places = torch.randint(wanted.shape[1], (SAMPLES,), generator=torch.Generator().manual_seed(0))
            x, y = seen[:, places].flatten(0, 1).double(), wanted[:, places].flatten(0, 1).double()
            old = module.weight.flatten(1).double().T  # (C * kernel, K)
            if module.bias is not None:
                y = y - module.bias.double()
            gram = x.T @ x
            ridge = 1e-2 * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
            # The ridge pulls towards the old weights, so that undetermined directions do not change.
            new = old + torch.linalg.solve(gram + ridge, x.T @ (y - x @ old))
            module.weight.copy_(new.T.reshape(module.weight.shape).float())
    return _reestimated(model, setting)


def steps(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Fine-tune everything for a few dozen steps."""
    return _briefly_trained(batchnorm(setting, masks), setting)


def steps_of_batchnorm(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Fine-tune the scales and shifts of batch-norm for a few dozen steps."""
    model = batchnorm(setting, masks)
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(True)
    return _briefly_trained(model, setting)


def cotrained(setting: Setting, masks: list[Mask]) -> nn.Module:
    """Cut the co-trained weights, and re-estimate batch-norm statistics."""
    plan = PruningPlan.from_masks(setting.network, masks)
    return _reestimated(cut(setting.cotrained, setting.network, plan), setting)


PROXIES: dict[str, Callable[[Setting, list[Mask]], nn.Module]] = {
    "no repair": bare,
    "batch-norm": batchnorm,
    "bias": bias,
    "bias, batch-norm": bias_batchnorm,
    "compensation, batch-norm": compensation_batchnorm,
    "least squares, batch-norm": least_squares,
    f"{STEPS} steps of everything": steps,
    f"{STEPS} steps of batch-norm": steps_of_batchnorm,
    "co-trained, batch-norm": cotrained,
}


def _reestimated(model: nn.Module, setting: Setting) -> nn.Module:
    reestimate_batchnorm(model, setting.task, images=512)
    return model


def _briefly_trained(model: nn.Module, setting: Setting) -> nn.Module:
    config = RecoveryConfig(epochs=1)
    train = setting.task.splits["train"]
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    few = train.take(chosen[: STEPS * config.batch_size])
    task = dataclasses.replace(setting.task, splits={**setting.task.splits, "train": few})
    finetune(model, task, config, teacher=replica(setting.dense))
    return _reestimated(model, setting)


@dataclass(frozen=True)
class _Kept:
    """The entries of a consumer's weight that a cut kept."""

    dense: nn.Module
    inputs: Tensor
    outputs: Tensor


def _readers(
    setting: Setting, masks: list[Mask], model: nn.Module
) -> list[tuple[nn.Conv2d | nn.Linear, _Kept, Tensor]]:
    """List the consumers with fewer channels in a cut network, with the dense network's inputs to each."""
    stays: dict[tuple[str, int], Tensor] = {}
    for layer, mask in zip(setting.network.layers, masks, strict=True):
        for where in layer.slices:
            size = (
                setting.dense.get_parameter(where.parameter).shape[where.axis]
                if where.role != "per_channel"
                else 0
            )
            if size:
                full = stays.setdefault((where.parameter, where.axis), torch.ones(size, dtype=torch.bool))
                full[torch.from_numpy(where.index[~mask].ravel())] = False
    readers = sorted({name.removesuffix(".weight") for name, axis in stays if axis == 1})
    captured: dict[str, Tensor] = {}
    handles = [
        setting.dense.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: captured.__setitem__(name, given[0].detach())
        )
        for name in readers
    ]
    chosen = torch.randperm(setting.task.size("train"), generator=torch.Generator().manual_seed(1))[:256]
    inputs, _ = setting.task.batch("train", chosen, augment=True, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        setting.dense.eval()(inputs)
    for handle in handles:
        handle.remove()
    found = []
    for name in readers:
        dense, module = setting.dense.get_submodule(name), model.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        rows, columns = dense.weight.shape[:2]
        kept = _Kept(
            dense,
            stays.get((f"{name}.weight", 1), torch.ones(columns, dtype=torch.bool)),
            stays.get((f"{name}.weight", 0), torch.ones(rows, dtype=torch.bool)),
        )
        found.append((module, kept, captured[name]))
    return found


def _rows(maps: Tensor) -> Tensor:
    """Move channels to the last axis and flatten positions: (B, P, K)."""
    return maps.flatten(2).transpose(1, 2) if maps.dim() == 4 else maps.unsqueeze(1)


def _windows(module: nn.Conv2d | nn.Linear, inputs: Tensor) -> Tensor:
    """Return the inputs of each output position: (B, P, C * kernel)."""
    if isinstance(module, nn.Linear):
        return inputs.unsqueeze(1)
    return F.unfold(
        inputs, module.kernel_size, dilation=module.dilation, padding=module.padding, stride=module.stride
    ).transpose(1, 2)
