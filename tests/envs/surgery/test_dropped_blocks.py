"""A network without blocks computes what the dense one does with a constant in place of each branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from secateur.envs.models import get_model
from secateur.envs.modules.calls import Call, as_calls
from secateur.envs.modules.copying import replica
from secateur.envs.modules.stand_ins import BranchConstant
from secateur.envs.recovery.branch_means import BranchMeans
from secateur.envs.surgery.block_removal import without_block, zero_constants
from secateur.envs.surgery.blocks import BlockError, drop_blocks, find_blocks, verify_drop
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.export import export
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly, verify_cut
from secateur.envs.tasks import Accuracy, ClassificationTask, TensorTask
from secateur.envs.tracing.blocks import Block
from support.made import conv, forward_of
from support.onnx import needs_onnx
from support.promises import difference, randomised

TOLERANCE = 1e-9


def demo(in_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return get_model("demo", num_classes=10, in_channels=in_channels).eval()


def calls_of(*shape: int) -> tuple[Call, ...]:
    return as_calls(torch.zeros(2, *shape))


def random_constants(model: nn.Module, block: Block) -> Tensor:
    some = next(model.parameters())
    generator = torch.Generator().manual_seed(sum(map(ord, block.last)))
    return torch.randn(block.channels, generator=generator, dtype=some.dtype)


def with_constants(model: nn.Module, constants: Mapping[str, Tensor]) -> nn.Module:
    """Make a network in which hooks on the dense one set what branches add."""
    held = replica(model)
    for name, constant in constants.items():

        def hook(_m: nn.Module, _i: object, output: Tensor, constant: Tensor = constant) -> Tensor:
            return torch.zeros_like(output) + constant.view(1, -1, *[1] * (output.ndim - 2))

        held.get_submodule(name).register_forward_hook(hook)
    return held


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("demo", 8, ["block1", "block2"]),
        ("resnet20", 16, ["layer1.1", "layer2.0", "layer3.2"]),
        ("resnet18", 32, ["layer1.0", "layer2.0.bn2", "layer4.0.downsample"]),
        ("mobilenet_v2", 32, ["features.3", "features.15"]),
        ("efficientnet_b0", 32, ["features.2.1", "features.6.3"]),
        ("regnet_y_400mf", 32, ["trunk_output.block2.block2-1", "trunk_output.block3.block3-0.f"]),
    ],
)
def test_a_network_without_blocks_adds_constants_in_their_place(
    name: str, size: int, blocks: list[str]
) -> None:
    model = randomised(get_model(name, num_classes=10, in_channels=3))
    for module in model.modules():
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0  # both networks would draw other numbers
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    found = {key: block for block in find_blocks(model, calls_of(3, size, size)[0])
             for key in (block.name, block.last)}  # fmt: skip
    constants = {found[name].last: random_constants(model, found[name]) for name in blocks}
    smaller, expected = model, with_constants(model, constants)
    for block in blocks:
        smaller = without_block(smaller, found[block], constants[found[block].last])
    for training in (False, True):
        outputs = [[each.train(training)(images)] for each in (expected, smaller, replica(model))]
        assert difference(outputs[0], outputs[1]) <= TOLERANCE
        assert difference(outputs[1], outputs[2]) > TOLERANCE, "the blocks do nothing"


def test_convnext_keeps_no_large_parameter_of_a_block() -> None:
    model = get_model("convnext_tiny", num_classes=10, in_channels=3).eval()
    (call,) = calls_of(3, 32, 32)
    block = find_blocks(model, call)[0]
    smaller = without_block(model, block, torch.ones(block.channels))
    left = sum(p.numel() for p in smaller.get_submodule(block.name).parameters())
    assert left == block.channels + 1
    x = torch.randn(2, 3, 32, 32)
    expected = with_constants(model, {block.last: torch.ones(block.channels)})
    assert torch.equal(expected(x), smaller(x))


def test_what_is_dropped_is_gone_from_memory_and_from_the_work() -> None:
    model = demo()
    (call,) = calls_of(3, 8, 8)
    before, after = (
        trace_exactly(model, call.inputs),
        trace_exactly(drop_blocks(model, ["block2"], [call]), call.inputs),
    )
    block = next(block for block in find_blocks(model, call) if block.name == "block2")
    assert float(before.macs(before.widths)) - float(after.macs(after.widths)) == block.macs
    own = sum(p.numel() for part in block.parts for p in model.get_submodule(part).parameters())
    assert float(before.params(before.widths)) - float(after.params(after.widths)) == own - block.channels


def sized(self: nn.Module, x: Tensor) -> Tensor:
    return self.head(x + self.second(self.first(x) * self.first.out_channels))


def flat_inside(self: nn.Module, x: Tensor) -> Tensor:
    return self.head(x + self.second(self.first(x).flatten(1).view(x.shape)))


def looks_inside_in_training(self: nn.Module, x: Tensor) -> Tensor:
    inner = self.first(x)
    out = self.head(x + self.second(inner))
    return out + inner.mean() if self.training else out


def changes_the_constant(self: nn.Module, x: Tensor) -> Tensor:
    return self.head(x + F.dropout(self.second(self.first(x)), 0.5, training=self.training))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (sized, "does not run .*out_channels"),
        (flat_inside, "does not run"),
        (looks_inside_in_training, "differs by"),
    ],
)
def test_a_block_that_cannot_go_exactly_is_refused_in_one_sentence(
    forward: Callable[..., Tensor], reason: str
) -> None:
    model = forward_of(forward, first=conv(3, 3), second=conv(3, 3), head=conv(3, 2)).eval()
    with pytest.raises(
        BlockError, match=rf"the block 'second' cannot go: .*{reason}.*leave it out$"
    ) as error:
        drop_blocks(model, ["second"], calls_of(3, 8, 8))
    assert "\n" not in str(error.value)


def test_what_happens_to_the_constant_in_training_is_no_change_of_the_network() -> None:
    model = forward_of(changes_the_constant, first=conv(3, 3), second=conv(3, 3), head=conv(3, 2)).eval()
    calls = calls_of(3, 8, 8)
    (block,) = find_blocks(model, calls[0])
    assert verify_drop(model, block, calls) <= TOLERANCE


def test_the_check_of_a_removal_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = demo(), calls_of(3, 8, 8)
    block = find_blocks(model, calls[0])[0]
    monkeypatch.setattr(
        "secateur.envs.surgery.blocks.without_block", lambda m, b, c: without_block(m, b, c + 1e-6)
    )
    with pytest.raises(BlockError, match="differs by"):
        verify_drop(model, block, calls)


def test_an_unknown_block_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"no block 'blok2', did you mean 'block2'.*blocks are block1, block2"
    ):
        drop_blocks(demo(), ["blok2"], calls_of(3, 8, 8))


def test_a_block_cannot_go_twice_nor_both_branches_of_a_sum() -> None:
    model = get_model("resnet18", num_classes=10, in_channels=3).eval()
    (call,) = calls_of(3, 32, 32)
    for others in (["layer1.0", "layer1.0"], ["layer2.0.bn2", "layer2.0.downsample"]):
        with pytest.raises(ValueError, match=f"no block '{others[1]}'"):
            drop_blocks(model, others, [call])


def test_an_outer_block_goes_with_what_is_left_of_it() -> None:
    inner = forward_of(lambda self, x: x + self.body(x), body=conv(3, 3))
    outer = forward_of(
        lambda self, x: x + self.last(self.inner(self.first(x))),
        first=conv(3, 3),
        inner=inner,
        last=conv(3, 3),
    )
    model = forward_of(lambda self, x: self.head(self.outer(x)), outer=outer, head=conv(3, 2)).eval()
    smaller = drop_blocks(model, ["outer.inner", "outer.last"], calls_of(3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(smaller(x), model.head(x))


def test_the_constant_is_what_a_branch_adds_on_average() -> None:
    model, (call,) = demo(), calls_of(3, 8, 8)
    block = find_blocks(model, call)[1]
    images, labels = torch.randn(300, 3, 8, 8), torch.zeros(300, dtype=torch.long)
    data = (images, labels)
    outputs: list[Tensor] = []
    handle = model.get_submodule(block.last).register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.no_grad():
        model(images)
    handle.remove()
    task = TensorTask(
        train=data, val=data, test=data, loss=F.cross_entropy, metric=Accuracy(), num_outputs=10
    )
    found = BranchMeans(task)(model, block)
    assert torch.allclose(found, outputs[0].mean((0, 2, 3)), atol=1e-5)
    assert found.abs().max() > 1e-3


def test_no_images_give_no_constant(digit_task: ClassificationTask) -> None:
    model, (call,) = demo(in_channels=1), calls_of(1, 8, 8)
    block = find_blocks(model, call)[0]
    found = BranchMeans(digit_task, images=0)(model, block)
    assert torch.equal(found, zero_constants(model, block))


@pytest.fixture(scope="module")
def pruned() -> tuple[nn.Module, PruningPlan]:
    """Give a network without a block that has lost half of its filters, and its plan."""
    (call,) = calls_of(3, 8, 8)
    without = drop_blocks(demo(), ["block1"], [call], random_constants)
    network = trace_exactly(without, call.inputs)
    masks = [np.arange(layer.filters) % 2 == 0 for layer in network.layers]
    plan = PruningPlan.from_masks(network, masks)
    assert verify_cut(without, network, plan, call.inputs[0]) <= TOLERANCE
    return cut(without, network, plan).eval(), PruningPlan.from_json(
        PruningPlan(**{**vars(plan), "blocks": ("block1",)}).to_json()
    )


def test_filters_are_cut_after_blocks_and_both_are_loaded(
    pruned: tuple[nn.Module, PruningPlan], tmp_path: Path
) -> None:
    model, plan = pruned
    assert plan.blocks == ("block1",)
    assert not any(name.startswith("block1") for name in plan.kept)
    save_pruned(model, plan, tmp_path)
    again, x = load_pruned(demo, tmp_path), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_a_plan_of_a_loaded_network_is_for_the_dense_one_too(
    pruned: tuple[nn.Module, PruningPlan], tmp_path: Path
) -> None:
    model, plan = pruned
    network = trace_exactly(model, torch.zeros(2, 3, 8, 8))
    masks = [np.arange(layer.filters) % 2 == 0 for layer in network.layers]
    later = PruningPlan.from_masks(network, masks)
    both = plan.then(later)
    assert both.blocks == ("block1",)
    smaller = cut(model, network, later).eval()
    save_pruned(smaller, both, tmp_path)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_pruned(demo, tmp_path)(x), smaller(x))


def test_blocks_go_one_after_another_but_not_after_filters(pruned: tuple[nn.Module, PruningPlan]) -> None:
    (call,) = calls_of(3, 8, 8)
    plans, model = [], demo()
    for name in ("block1", "block2"):
        model = drop_blocks(model, [name], [call])
        dense = PruningPlan.dense(trace_exactly(model, call.inputs))
        plans.append(PruningPlan(**{**vars(dense), "blocks": (name,)}))
    assert plans[0].then(plans[1]).blocks == ("block1", "block2")
    assert plans[0].then(plans[1]).kept == plans[1].kept
    with pytest.raises(ValueError, match="lost filters, and blocks go first; drop block2 from the dense"):
        pruned[1].then(plans[1])


def test_a_plan_with_blocks_needs_the_shape_of_an_input(
    pruned: tuple[nn.Module, PruningPlan], tmp_path: Path
) -> None:
    model, plan = pruned
    save_pruned(model, PruningPlan(**{**vars(plan), "input_shape": None}), tmp_path)
    with pytest.raises(ValueError, match="it has to say the shape of an input, input_shape"):
        load_pruned(demo, tmp_path)


@pytest.mark.parametrize("shape", [(), (3,), (1, 8, 8), (3, 1, 1, 1), (3, 2**20, 2**20), (1,) * 60])
def test_a_plan_with_blocks_and_a_wrong_shape_of_an_input_is_refused(
    shape: tuple[int, ...], pruned: tuple[nn.Module, PruningPlan], tmp_path: Path
) -> None:
    model, plan = pruned
    save_pruned(model, PruningPlan(**{**vars(plan), "input_shape": shape}), tmp_path)
    with pytest.raises(ValueError, match="input_shape"):
        load_pruned(demo, tmp_path)


def test_a_plan_of_an_unknown_block_is_refused(pruned: tuple[nn.Module, PruningPlan], tmp_path: Path) -> None:
    model, plan = pruned
    save_pruned(model, PruningPlan(**{**vars(plan), "blocks": ("block7",)}), tmp_path)
    with pytest.raises(ValueError, match="no block 'block7'"):
        load_pruned(demo, tmp_path)


def test_constants_are_trained_like_biases(pruned: tuple[nn.Module, PruningPlan]) -> None:
    model = replica(pruned[0]).train()
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    (constant,) = [each for each in model.modules() if isinstance(each, BranchConstant)]
    assert constant.bias.grad is not None
    assert constant.bias.grad.abs().max() > 0


@pytest.mark.parametrize("name", [pytest.param("resnet18", marks=pytest.mark.slow), "demo"])
@pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=[needs_onnx, pytest.mark.slow])])
def test_a_network_without_blocks_is_exported(name: str, kind: Any, tmp_path: Path) -> None:
    model = get_model(name, num_classes=10, in_channels=3).eval()
    calls = calls_of(3, 32, 32)
    names = [block.last for block in find_blocks(model, calls[0]) if "downsample" not in block.last]
    smaller = drop_blocks(model, names[1:3], calls, random_constants).eval()
    found = export(smaller, tmp_path / f"model.{kind}", kind, (3, 32, 32))
    assert found.difference < 1e-4
