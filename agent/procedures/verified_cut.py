"""The function ``secateur.cut``: cut a network by a plan, and verify it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...envs.modules.calls import AlsoTrace, as_calls
from ...envs.modules.prunable_kind import check_prunable_kind
from ...envs.recovery.branch_means import BranchMeans
from ...envs.recovery.compensation import Compensation
from ...envs.surgery import cutting
from ...envs.surgery.block_removal import zero_constants
from ...envs.surgery.blocks import drop_blocks
from ...envs.surgery.plan import PruningPlan
from ...envs.surgery.verification import trace_exactly, verify_cut
from ...envs.tasks import Task
from ...envs.tasks.user_task import on_device
from .python_words import speaks_python


@speaks_python
def cut(
    model: nn.Module,
    plan: PruningPlan,
    *,
    task: Task | None = None,
    example: Tensor | None = None,
    also_trace: AlsoTrace | Iterable[AlsoTrace] = (),
    size: Mapping[str, str] | None = None,
    allow_inexact: Collection[str] = (),
) -> nn.Module:
    """Remove what a plan does not keep: blocks, then filters, then ranks; and verify the result.

    Args:
        model: The dense network; it is not changed.
        plan: The plan of a search or a run.
        task: Data with which the kept channels are adapted to make up for the removed ones, in closed form,
            and with which the constants are set that are added in place of blocks; None leaves the weights as
            they are, and adds nothing.
        example: A batch of inputs, for networks whose plan does not say the shape of one.
        also_trace: As for ``secateur.trace``, if the plan was made with it.
        size: As for ``secateur.trace``, if the plan was made with it.
        allow_inexact: As for ``secateur.trace``, if the plan was made with it.

    Returns:
        A smaller network, which computes what the dense one computes without these blocks and filters; layers
        with a rank compute their best approximation.

    Raises:
        ValueError: If the plan was made for another network, the network has no weights, or an example is
            needed.
        TypeError: If the plan is no plan, such as a path, or the model no network.
        InexactCutError: If the smaller network does not compute what the masked one does.
    """
    if not isinstance(plan, PruningPlan):
        given = type(plan).__name__
        raise TypeError(f"the plan is {given}; give a PruningPlan, such as PruningPlan.from_json(text)")
    check_prunable_kind(model)
    if example is None:
        if plan.input_shape is None:
            raise ValueError("the plan does not say the shape of an input; give example=, a batch of inputs")
        example = torch.zeros(2, *plan.input_shape, device=next(model.parameters()).device)
    if task is not None:
        task = on_device(task, next(model.parameters()).device)
    if plan.blocks:
        calls = as_calls(example, also_trace)
        model = drop_blocks(model, plan.blocks, calls, BranchMeans(task) if task else zero_constants)
    network = trace_exactly(model, example, also_trace=also_trace, size=size, allow_inexact=allow_inexact)
    whole = PruningPlan.dense(network)
    if set(plan.kept) < set(whole.kept):  # protected layers are not in a plan
        plan = replace(plan, kept={**whole.kept, **plan.kept}, filters={**whole.filters, **plan.filters})
    verify_cut(model, network, plan, example)
    if task is not None:
        model = Compensation(model, network, task).compensated_copy(model, plan.masks(network))
    return cutting.cut(model, network, plan)
