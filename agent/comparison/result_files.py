"""What a system's result leaves in its folder: plan, weights, and the report without times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...envs.io.atomic_write import write_atomically
from ...envs.io.run_files import MEASURED, PLAN, WEIGHTS
from ...envs.io.tensor_files import write_tensors
from ...envs.io.untrusted import first_line
from ...envs.modules.copying import replica
from ...envs.modules.outputs import main_output
from ...envs.quantization.fake import quantized_layers
from ...envs.quantization.integers import int8_bytes
from ...envs.sparsity.masks import remove_masks, sparsity
from ...envs.surgery.cutting import load_pruned, save_pruned
from ...envs.surgery.plan import PruningPlan
from ...envs.tracing import trace
from ..reporting.report import plain_values
from ..reporting.summary import describe_networks, device_name, measured_row, size_row
from ..systems.base import Kind, Result
from ..systems.training import recipe_details
from .shared import Entry, Shared

_CLOSE = 1e-4
"""Largest difference of a rebuilt network's outputs, relative to the largest output."""


def save_result(
    shared: Shared, entry: Entry, kind: Kind, result: Result, seconds: float, folder: Path
) -> dict[str, Any]:
    """Write plan and weights of a system's network, measure it on test, and write the report without times.

    All systems are measured here, in the same way; the file of one under fake quantisation is that of int8.

    Args:
        shared: What all members of the comparison have in common.
        entry: What the member did.
        kind: What the system removes.
        result: What the system gave back.
        seconds: Wall-clock seconds that it took.
        folder: The member's folder.

    Returns:
        The report; ``system`` has ``name``, ``kind``, ``target``, ``epochs``, ``seconds``, ``nonzero`` (the
        share of weights of convolutions and linear layers, in [0, 1]; None if they cannot be counted),
        ``not_loadable`` (why the network cannot be rebuilt from its folder; "" if it can), ``notes`` and
        ``details``.
    """
    plain = remove_masks(replica(result.model.eval()))
    dense_plan = PruningPlan.dense(shared.network)
    stored = plain if result.stored is None else remove_masks(replica(result.stored.eval()))
    not_loadable = _write_network(shared, stored, result.plan or dense_plan, folder)
    if result.plan is None and not_loadable:
        not_loadable = "it is another network than the dense one, so no plan says how to build it"
    known = result.plan or (None if not_loadable else dense_plan)
    size, size_note = _size(shared, plain, known)
    row, measured = measured_row(plain, shared.task, size)
    if (folder / WEIGHTS).is_file():
        row["file_bytes"] = (folder / WEIGHTS).stat().st_size
    if quantized_layers(plain):
        row["file_bytes"] = int8_bytes(plain)
    notes = [*result.notes, *([size_note] if size_note else [])]
    notes += [f"The network cannot be rebuilt from this folder: {not_loadable}."] if not_loadable else []
    details = dict(result.details)
    report = describe_networks(
        shared.name,
        shared.network,
        shared.task,
        result.plan or dense_plan,
        shared.dense,
        (row, measured),
        notes,
    )
    recovery = shared.config.pruning(entry.target, entry.seed).recovery
    report |= {
        "method": entry.method,
        "device": device_name(shared.model),
        "seed": entry.seed,
        "command": shared.command,
        "search": details.pop("search", {}),
        "recovery": details.pop("recovery", recipe_details(recovery, shared.model)),
        "system": {
            "name": entry.method,
            "kind": kind,
            "target": entry.target,
            "epochs": result.epochs,
            "seconds": round(seconds, 1),
            "nonzero": _nonzero(plain),
            "not_loadable": not_loadable,
            "notes": list(result.notes),
            "details": details,
        },
    }
    text = json.dumps(plain_values(report, undefined=float("nan")))
    write_atomically(folder / MEASURED, lambda aside: aside.write_text(text, encoding="utf-8"))
    return report


def _write_network(shared: Shared, plain: nn.Module, plan: PruningPlan, folder: Path) -> str:
    """Write the files that rebuild a network, and try them; return why they do not, or ""."""
    try:
        save_pruned(plain, plan, folder)
        rebuilt = rebuild(shared, folder)
        if (difference := _difference(shared, plain, rebuilt)) <= _CLOSE:
            return ""
        reason = f"what is rebuilt from its files computes something else ({difference:.1e} relative)"
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        reason = first_line(error)
    (folder / PLAN).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    _write_weights_alone(plain, folder)
    return reason


def _write_weights_alone(plain: nn.Module, folder: Path) -> None:
    state = {name: value for name, value in plain.state_dict().items() if type(value) is torch.Tensor}
    if len(state) == len(plain.state_dict()):  # else something else is among them, such as packed integers
        write_tensors(folder / WEIGHTS, state)


def rebuild(shared: Shared, folder: Path) -> nn.Module:
    """Rebuild the network of a member from its files, on the task's device.

    Raises:
        ValueError: If the files do not rebuild it.
    """
    device = next(shared.model.parameters()).device
    return load_pruned(lambda: replica(shared.model).cpu(), folder).to(device)


def _difference(shared: Shared, model: nn.Module, other: nn.Module) -> float:
    inputs, _ = shared.task.batch("val", torch.arange(min(4, shared.task.size("val"))))
    with torch.no_grad():
        one, two = (main_output(each.eval()(inputs.clone())) for each in (model, other))
    return float((one - two).abs().max() / one.abs().max().clamp_min(1e-30))


def _size(shared: Shared, plain: nn.Module, plan: PruningPlan | None) -> tuple[dict[str, float], str]:
    """Return the size of a network, and a note if it cannot be counted; without a plan it is traced."""
    if plan is not None and not plan.blocks and not plan.ranks:
        return size_row(shared.network, plan.counts(shared.network)), ""
    try:
        return size_row(trace(plain, torch.zeros(2, *shared.task.input_shape))), ""
    except Exception as error:  # a trace runs the network's code
        return size_row(shared.network), (
            f"MACs and parameters cannot be counted ({first_line(error)}); they are those of the dense "
            "network."
        )


def _nonzero(plain: nn.Module) -> float | None:
    try:
        return 1 - sparsity(plain)
    except (RuntimeError, AttributeError, TypeError):  # weights that are no plain tensors
        return None
