"""Residual branches are found in networks of any code, and named so that they are found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.modules.calls import as_calls
from secateur.envs.tracing.blocks import Block, find_blocks
from support.made import conv, forward_of


def blocks_of(model: nn.Module, *shape: int) -> dict[str, Block]:
    found = find_blocks(model.eval(), as_calls(torch.zeros(2, *shape))[0])
    return {block.name: block for block in found}


def droppable(model: nn.Module, size: int = 8) -> list[str]:
    return [name for name, block in blocks_of(model, 3, size, size).items() if not block.refusal]


def refusal(model: nn.Module) -> str:
    (block,) = blocks_of(model, 3, 8, 8).values()
    return block.refusal


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [
        ("demo", 8, 2),
        ("resnet20", 16, 9),
        ("resnet56", 8, 27),
        ("resnet18", 32, 11),  # three of them are projections
        ("resnet50", 32, 20),
        ("mobilenet_v2", 32, 10),
        ("efficientnet_b0", 32, 9),
        ("convnext_tiny", 32, 18),
        ("regnet_y_400mf", 32, 20),
        ("densenet121", 32, 0),
        ("shufflenet_v2_x0_5", 32, 0),
        ("googlenet", 32, 0),
    ],
)
def test_networks_have_as_many_blocks_as_their_papers_say(name: str, size: int, number: int) -> None:
    found = blocks_of(get_model(name, num_classes=10, in_channels=3), 3, size, size)
    assert len(found) == number
    assert [block.refusal for block in found.values() if block.refusal] == []


def test_a_block_has_the_name_of_its_module_where_it_is_alone_in_it() -> None:
    assert list(blocks_of(get_model("resnet18", num_classes=10, in_channels=3), 3, 32, 32)) == [
        "layer1.0", "layer1.1", "layer2.0.bn2", "layer2.0.downsample", "layer2.1", "layer3.0.bn2",
        "layer3.0.downsample", "layer3.1", "layer4.0.bn2", "layer4.0.downsample", "layer4.1",
    ]  # fmt: skip


def test_a_block_counts_the_macs_of_its_branch() -> None:
    found = blocks_of(get_model("resnet20", num_classes=10, in_channels=3), 3, 32, 32)
    assert found["layer1.0"].macs == 2 * 32 * 32 * 16 * 16 * 9
    assert found["layer3.0"].macs == 8 * 8 * 64 * 9 * (32 + 64)


class Attending(nn.Module):
    """Attend from each of the 16 places of 8 channels to all others, beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.projections, self.out = nn.Conv2d(3, 8, 1), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        places = self.stem(x).flatten(2).transpose(1, 2)
        return places + self.out(F.scaled_dot_product_attention(*self.projections(places).chunk(3, 2)))


def test_a_block_counts_the_products_of_attention() -> None:
    found = blocks_of(Attending(), 3, 4, 4)
    assert found["out"].macs == 4 * 8 * 8 * 16 + 2 * 8 * 16 * 16


def into_the_shortcut(self: nn.Module, x: Tensor) -> Tensor:
    x = self.stem(x)
    branch = self.branch(x)
    x += branch
    return self.head(x)


def on_views(self: nn.Module, x: Tensor) -> Tensor:
    x = self.stem(x)
    shortcut = x.view(x.shape)
    x.relu_()  # changes the shortcut, too
    return self.head(shortcut + self.branch(x))


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.head(x + self.branch(x)),
        lambda self, x: self.head(self.branch(x) + x),
        lambda self, x: self.head(torch.add(x, self.branch(x), alpha=0.5)),
        lambda self, x: self.head(F.relu(self.branch(x) + x, inplace=True)),
        lambda self, x: self.head(self.branch(F.relu(x)) + F.max_pool2d(x, 1)),
    ],
    ids=["shortcut first", "branch first", "scaled", "relu", "pooled"],
)
def test_both_orders_and_all_forms_of_an_addition_are_seen(forward: Callable[..., Tensor]) -> None:
    assert droppable(forward_of(forward, branch=conv(3, 3), head=conv(3, 3))) == ["branch"]


@pytest.mark.parametrize("forward", [into_the_shortcut, on_views])
def test_additions_in_place_are_seen(forward: Callable[..., Tensor]) -> None:
    assert droppable(forward_of(forward, stem=conv(3, 4), branch=conv(4, 4), head=conv(4, 2))) == ["branch"]


def test_an_inner_block_is_one_of_its_own() -> None:
    inner = forward_of(lambda self, x: x + self.body(x), body=conv(3, 3))
    outer = forward_of(
        lambda self, x: x + self.last(self.inner(self.first(x))),
        first=conv(3, 3),
        inner=inner,
        last=conv(3, 3),
    )
    model = forward_of(lambda self, x: self.head(self.outer(x)), outer=outer, head=conv(3, 2))
    found = blocks_of(model, 3, 8, 8)
    assert list(found) == ["outer.inner", "outer.last"]
    assert set(found["outer.last"].parts) == {"outer.first", "outer.inner", "outer.last"}


def test_a_branch_without_parameters_is_no_block() -> None:
    assert blocks_of(forward_of(lambda self, x: self.head(x + x.relu()), head=conv(3, 2)), 3, 8, 8) == {}


def test_a_chain_and_a_concatenation_have_no_blocks() -> None:
    chain = nn.Sequential(conv(3, 3), nn.ReLU(), conv(3, 3))
    both = forward_of(lambda self, x: torch.cat([x, self.branch(x)], 1), branch=conv(3, 3))
    assert blocks_of(chain, 3, 8, 8) == blocks_of(both, 3, 8, 8) == {}


def used_twice(self: nn.Module, x: Tensor) -> Tensor:
    branch = self.branch(x)
    return self.head(x + branch) * branch.mean()


def seen_outside(self: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    branch = self.branch(x)
    return self.head(x + branch), branch


def shares_a_module(self: nn.Module, x: Tensor) -> Tensor:
    return self.head(x + self.last(self.branch(x))) + self.branch(x).mean()


def with_a_function(self: nn.Module, x: Tensor) -> Tensor:
    return self.head(x + F.relu(self.branch(x)))


def with_last_channels(self: nn.Module, x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    return (x + self.branch(x)).mean((1, 2))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (used_twice, "used elsewhere"),
        (seen_outside, "used elsewhere"),
        (shares_a_module, "it shares branch.weight with other parts"),
        (with_a_function, "not the output of one of its modules"),
    ],
)
def test_a_block_that_cannot_go_says_why(forward: Callable[..., Tensor], reason: str) -> None:
    parts = {"branch": conv(3, 3), "last": conv(3, 3), "head": conv(3, 2)}
    assert reason in refusal(forward_of(forward, **parts))


def test_channels_on_another_axis_are_refused() -> None:
    assert "not its channels" in refusal(forward_of(with_last_channels, branch=nn.Linear(3, 3)))


def test_finding_blocks_changes_nothing() -> None:
    model = get_model("resnet20", num_classes=10, in_channels=3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_blocks(model, as_calls(torch.randn(2, 3, 8, 8))[0])
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
