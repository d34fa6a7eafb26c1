"""Put a network under fake quantisation, calibrate it, and take it back."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..io.wording import counted
from ..modules.inputs import run_on_copy
from ..modules.modes import restored_modes
from ..tasks.base import Task
from ..tasks.optional_members import measuring_batch
from .fake import (
    STAND_INS,
    ActivationRange,
    OutputRounding,
    RoundedLayer,
    change_kind,
    kind_of,
    layers_in_float,
    quantized_layers,
)
from .places import Place, find_places

CALIBRATION_IMAGES = 512
"""Training images for the first ranges; training moves them on."""

_MOST_NAMES = 8
"""Largest number of layers that a note names."""

_BATCH = 64
"""Images of a batch of the calibration; a range is the mean of its batches' extremes."""


def quantize_(model: nn.Module, task: Task, *, seed: int = 0) -> nn.Module:
    """Put a network under fake quantisation in place, with ranges calibrated on training images; return it.

    Convolutions and linear layers of torch's own classes are quantised, others stay in float; see
    :func:`float_notes`. Names of parameters, masks, parametrisations and hooks stay as they are; the ranges
    are buffers. In training mode ranges follow the activations, and weights learn to be rounded (Jacob et al.
    2018, arXiv 1712.05877, section 3).

    Args:
        model: A network on the task's device.
        task: The task with the training images.
        seed: Seed of their choice and augmentation.

    Raises:
        ValueError: If the network has no layer that can be quantised.
    """
    example, _ = task.batch("train", torch.arange(min(2, task.size("train"))))
    fake_quantize_(model, example)
    calibrate(model, task, seed=seed)
    return model


def fake_quantize_(model: nn.Module, example: Tensor) -> nn.Module:
    """Put a network under fake quantisation in place, with empty ranges; return it.

    Args:
        model: A network, as for :func:`quantize_`; one that is under it already stays as it is.
        example: A batch of inputs.

    Raises:
        ValueError: If the network has no layer that can be quantised.
    """
    if quantized_layers(model):
        return model
    places = find_places(model, example)
    if not places:
        raise ValueError(
            "the network has no plain nn.Conv1d, nn.Conv2d or nn.Linear, so nothing of it can be int8; leave "
            "out the quantisation"
        )
    modules = dict(model.named_modules())
    for name, place in places.items():
        _stand_in(modules[name], place, modules)
    return model


def _stand_in(layer: nn.Module, place: Place, modules: dict[str, nn.Module]) -> None:
    """Change a layer's class, and give it its ranges."""
    device = next(layer.parameters()).device
    change_kind(layer, STAND_INS[kind_of(layer)])
    assert isinstance(layer, RoundedLayer)
    layer.input_range = ActivationRange().to(device).train(layer.training)
    layer.output_range = None
    layer.norm = place.norm
    if place.rounds_output:
        rounding = ActivationRange(rectified=place.rectified).to(device).train(layer.training)
        layer.output_range = rounding
        tail = modules[place.norm] if place.norm else layer
        tail.register_forward_hook(OutputRounding(rounding))


def float_notes(model: nn.Module) -> tuple[str, ...]:
    """Name the layers of a network under fake quantisation that stay in float, in a note if there are any."""
    names = layers_in_float(model)
    if not names:
        return ()
    more = "" if len(names) <= _MOST_NAMES else f" and {len(names) - _MOST_NAMES} more"
    stay = counted(len(names), "layer stays", "layers stay")
    return (
        f"{stay} in float ({', '.join(names[:_MOST_NAMES])}{more}): int8 is for plain nn.Conv1d, nn.Conv2d "
        "and nn.Linear that the forward code calls.",
    )


def calibrate(model: nn.Module, task: Task, *, images: int = CALIBRATION_IMAGES, seed: int = 0) -> None:
    """Set the ranges of a network under fake quantisation from training images, in place.

    The images are augmented as in training, and pass through the network in float, in evaluation mode.

    Args:
        model: The network, on the task's device.
        task: The task with the training images.
        images: Images, at least 1.
        seed: Seed of their choice and augmentation.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(task.size("train"), generator=generator)[:images]
    ranges = [module for module in model.modules() if isinstance(module, ActivationRange)]
    with restored_modes(model), torch.no_grad():
        model.eval()
        for one in ranges:
            one.calibration_batches = 0
        try:
            for part in chosen.tensor_split(math.ceil(len(chosen) / measuring_batch(task, _BATCH))):
                inputs, _ = task.batch("train", part, augment=True, generator=generator)
                run_on_copy(model, inputs)
        finally:
            for one in ranges:
                one.calibration_batches = None


def remove_fake_quantization(model: nn.Module) -> nn.Module:
    """Take a network out of fake quantisation in place, with its weights in float; return it."""
    plain: dict[type[nn.Module], type[nn.Module]] = {stand_in: kind for kind, stand_in in STAND_INS.items()}
    for layer in quantized_layers(model).values():
        del layer.input_range, layer.output_range, layer.norm
        change_kind(layer, plain[kind_of(layer)])
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, OutputRounding):
                del module._forward_hooks[key]
    return model
