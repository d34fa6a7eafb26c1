"""What a trace finds: couplings by operation, and what stays and why."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly, verify_cut
from secateur.envs.tracing import Cause, Layer, Pin, TracedNetwork, trace
from secateur.envs.tracing.rules.shapes import blocks
from support.networks import OWN, LiteralSizes, SharedTwice, SizesByAttribute, TiedWeights
from support.promises import masked_difference, random_plan, randomised

IMAGES = torch.randn(2, 3, 8, 8)


class Forward(nn.Module):
    """Modules by name and a forward function over them."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._forward(self, *inputs)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


def layer(network: TracedNetwork, name: str) -> Layer:
    return next(found for found in network.layers if found.name == name)


def index(found: Layer, parameter: str, axis: int) -> np.ndarray:
    return next(s.index for s in found.slices if (s.parameter, s.axis) == (parameter, axis))


# Random networks: the steps that are applied, one after the other, to a stream of channels.
STEPS = [
    "conv",
    "grouped",
    "many groups",
    "depthwise",
    "residual",
    "concat",
    "halves",
    "shuffle",
    "gate",
    "pad",
    "transposed",
    "groupnorm",
]


class RandomNet(nn.Module):
    def __init__(self, steps: list[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.steps, width = steps, 8
        self.stem = conv(3, width)
        for number, step in enumerate(steps):
            grown = {"concat": 2 * width, "halves": width // 2 * 2, "pad": width + 4}.get(step, width)
            part: nn.Module = {
                "grouped": lambda w=width: conv(w, w, 2),
                "many groups": lambda w=width: conv(w, w, w // 2),
                "depthwise": lambda w=width: conv(w, w, w),
                "halves": lambda w=width: conv(w // 2, w // 2),
                "gate": lambda w=width: nn.Conv2d(w, w, 1),
                "transposed": lambda w=width: nn.ConvTranspose2d(w, w, 3, padding=1),
                "groupnorm": lambda w=width: nn.GroupNorm(2, w),
            }.get(step, lambda w=width: conv(w, w))()
            self.add_module(f"step{number}", part)
            self.add_module(f"norm{number}", nn.BatchNorm2d(grown))
            width = grown
        self.head = nn.Linear(width * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number, step in enumerate(self.steps):
            part, norm = self.get_submodule(f"step{number}"), self.get_submodule(f"norm{number}")
            match step:
                case "residual":
                    x = x + F.relu(part(x))
                case "concat":
                    x = torch.cat([part(x), x], 1)
                case "halves":
                    one, other = x.chunk(2, 1)
                    x = torch.cat([other, part(one)], 1)
                case "shuffle":
                    x = part(x)
                    b, c, h, w = x.shape
                    x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
                case "gate":
                    x = x * torch.sigmoid(part(x.mean((2, 3), keepdim=True)))
                case "pad":
                    x = F.pad(part(x), (0, 0, 0, 0, 1, 3))
                case _:
                    x = part(x)
            x = F.relu(norm(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 2), 1))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), st.integers(0, 100))
def test_any_mixture_of_couplings_is_cut_exactly_without_a_trial(steps: list[str], seed: int) -> None:
    model = randomised(RandomNet(steps, seed))
    inputs = (torch.randn(2, 3, 8, 8, dtype=torch.float64),)
    network = trace(model, inputs)
    for sparsity in (0.3, 0.6):
        plan = random_plan(network, sparsity, seed)
        assert masked_difference(model, network, plan, plan, inputs) <= TOLERANCE


@given(st.lists(st.integers(1, 5), max_size=5), st.lists(st.integers(1, 5), max_size=5), st.randoms())
def test_a_reshape_pairs_runs_of_axes_of_equal_size(one: list[int], other: list[int], random: object) -> None:
    old = (*one, *other)
    new = (*([math.prod(one)] if one else []), *other)
    pairs = list(blocks(old, new))
    assert [i for ours, _ in pairs for i in ours] == list(range(len(old)))
    assert [j for _, theirs in pairs for j in theirs] == list(range(len(new)))
    assert all(math.prod(old[i] for i in a) == math.prod(new[j] for j in b) for a, b in pairs)


@pytest.mark.parametrize("architecture", OWN, ids=lambda a: a.name)
def test_tracing_touches_nothing(architecture: object) -> None:
    model = architecture.model()  # type: ignore[attr-defined]
    for number, module in enumerate(model.modules()):
        module.training = number % 2 == 0
    flags = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = torch.random.get_rng_state()
    trace_exactly(model, architecture.example())  # type: ignore[attr-defined]
    assert torch.equal(before, torch.random.get_rng_state())
    assert flags == [module.training for module in model.modules()]
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_the_channels_that_a_shortcut_pads_stay() -> None:
    network = trace(get_model("resnet20", num_classes=10, in_channels=3), torch.randn(2, 3, 32, 32))
    stuck = {p.name: (p.pinned, p.cause.reason) for p in network.pinned}
    assert stuck["layer2.1.conv2"] == (16, "padded channels stay")
    assert stuck["layer3.2.conv2"] == (48, "padded channels stay")
    stream = layer(network, "conv1")
    assert stream.filters == 16
    assert {"layer1.0.conv2", "layer2.2.conv2", "layer3.2.conv2"} <= set(stream.producers)


def test_a_channel_is_a_block_of_columns_after_flatten() -> None:
    model = nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    columns = index(layer(trace(model, IMAGES), "0"), "3.weight", 1)
    assert columns.tolist() == np.arange(16).reshape(4, 4).tolist()


def test_a_depthwise_convolution_goes_with_what_it_reads() -> None:
    model = nn.Sequential(conv(3, 6), conv(6, 12, groups=6), conv(12, 2))
    network = trace(model, IMAGES)
    assert [(found.name, found.filters, found.producers) for found in network.layers] == [
        ("0", 6, ("0", "1"))
    ]
    assert index(network.layers[0], "2.weight", 1).tolist() == np.arange(12).reshape(6, 2).tolist()


def test_many_small_groups_go_as_a_whole() -> None:
    network = trace(nn.Sequential(conv(3, 16), conv(16, 8, groups=8), conv(8, 2)), IMAGES)
    assert index(layer(network, "0"), "0.weight", 0).tolist() == np.arange(16).reshape(8, 2).tolist()


def test_few_large_groups_lose_the_same_filter_each() -> None:
    network = trace(nn.Sequential(conv(3, 16), conv(16, 12, groups=2), conv(12, 2)), IMAGES)
    assert index(layer(network, "0"), "0.weight", 0).tolist() == [[i, i + 8] for i in range(8)]
    assert index(layer(network, "0"), "1.weight", 1).tolist() == [[i] for i in range(8)]
    assert index(layer(network, "1"), "2.weight", 1).tolist() == [[i, i + 6] for i in range(6)]


def test_a_concatenation_shifts_the_channels_of_its_second_part() -> None:
    model = Forward(
        lambda self, x: self.last(torch.cat([self.one(x), self.other(x)], 1)),
        one=conv(3, 4),
        other=conv(3, 5),
        last=conv(9, 2),
    )
    network = trace(model, IMAGES)
    assert index(layer(network, "one"), "last.weight", 1).ravel().tolist() == [0, 1, 2, 3]
    assert index(layer(network, "other"), "last.weight", 1).ravel().tolist() == [4, 5, 6, 7, 8]


def test_a_channel_shuffle_ties_the_groups_it_mixes() -> None:
    model = Forward(
        lambda self, x: self.last(F.channel_shuffle(self.first(x), 2)), first=conv(3, 6), last=conv(6, 2)
    )
    network = trace(model, IMAGES)
    assert index(layer(network, "first"), "first.weight", 0).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert index(layer(network, "first"), "last.weight", 1).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_channels_that_can_only_go_all_together_stay_and_the_operation_is_named() -> None:
    def shuffled_and_halved(self: Forward, x: Tensor) -> Tensor:
        one, other = F.channel_shuffle(self.first(x), 2).chunk(2, dim=1)
        return self.last(torch.cat([one, torch.tanh(other)], 1))

    network = trace(Forward(shuffled_and_halved, first=conv(3, 4), last=conv(4, 2)), IMAGES)
    assert not network.layers
    assert network.prunable_share == 0.0
    assert (
        network.pinned[0].cause.reason
        == "all its channels can only be removed together, and at least one has to stay"
    )
    assert network.pinned[0].cause.operation == "channel_shuffle"
    assert network.pinned[0].cause.source.startswith("tracing/test_tracing.py:")


def test_an_addition_couples_its_producers_into_one_layer() -> None:
    model = Forward(
        lambda self, x: self.last(self.one(x) + self.other(x)),
        one=conv(3, 4),
        other=conv(3, 4),
        last=conv(4, 2),
    )
    network = trace(model, IMAGES)
    assert [(found.producers, found.consumers) for found in network.layers] == [(("one", "other"), ("last",))]


def test_the_filters_of_a_transposed_convolution_lie_on_its_second_axis() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.ConvTranspose2d(5, 2, 2))
    roles = {(s.parameter, s.axis): s.role for s in layer(trace(model, IMAGES), "0").slices}
    assert roles == {
        ("0.weight", 1): "producer",
        ("0.bias", 0): "per_channel",
        ("1.weight", 0): "input_channel",
    }


def test_an_unknown_operation_pins_what_it_touches_and_says_where() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.renorm(x, 2, 0, 1.0)

    model = nn.Sequential(conv(3, 4), conv(4, 5), Odd(), conv(5, 2))
    network = trace(model, IMAGES)
    assert [found.name for found in network.layers] == ["0"]
    pinned = next(p for p in network.pinned if p.name == "1")
    assert (pinned.filters, pinned.pinned, pinned.outputs) == (5, 5, 0)
    line = Odd.forward.__code__.co_firstlineno + 1
    assert str(pinned.cause) == f"renorm has no tracing rule in 2 (tracing/test_tracing.py:{line})"


def test_a_convolution_used_twice_is_its_own_producer_and_consumer() -> None:
    network = trace(SharedTwice(), IMAGES)
    (found,) = network.layers
    assert found.producers == ("stem", "shared")
    assert {(s.axis, s.role) for s in found.slices if s.parameter == "shared.weight"} == {
        (0, "producer"),
        (1, "input_channel"),
    }


def test_a_parameter_of_two_modules_is_cut_once_and_stays_shared() -> None:
    model = TiedWeights()
    network = trace(model, IMAGES)
    plan = random_plan(network, 0.5)
    smaller = cut(model, network, plan)
    assert smaller.one.weight is smaller.other.weight
    assert smaller.one.out_channels == smaller.other.out_channels == len(plan.kept["one"]) < 10


def test_dropout_of_channels_does_not_pin_them() -> None:
    model = nn.Sequential(conv(3, 4), nn.Dropout2d(0.5), conv(4, 2))
    assert trace(model, IMAGES).prunable_share == 1.0


def test_a_head_that_only_training_runs_is_seen() -> None:
    def forward(self: nn.Module, x: Tensor) -> object:
        x = self.stem(x)
        return (self.head(x), self.auxiliary(self.before(x))) if self.training else self.head(x)

    model = Forward(forward, stem=conv(3, 4), head=conv(4, 2), before=conv(4, 6), auxiliary=conv(6, 2))
    network = trace_exactly(model, IMAGES)
    assert [found.name for found in network.layers] == ["stem", "before"]
    assert {s.parameter for s in layer(network, "stem").slices} >= {"head.weight", "before.weight"}


def test_outputs_of_the_network_do_not_count_as_prunable_or_not() -> None:
    network = trace(nn.Sequential(conv(3, 4), conv(4, 2)), IMAGES)
    assert network.total_filters == 6
    assert network.prunable_share == 1.0
    assert [(p.name, p.outputs, p.cause.reason) for p in network.pinned] == [("1", 2, "the network's output")]


def test_sizes_that_forward_code_reads_from_attributes_follow_the_cut() -> None:
    model = SizesByAttribute()
    network = trace_exactly(model, IMAGES)
    assert network.prunable_share == 1.0
    # The stem's first part and the first half of what follows are both 6 wide: they are told apart.
    counts = {"stem": 2, "stem#2": 5, "even": 4, "even#2": 3, "left": 5, "hidden": 3}
    masks = [np.arange(layer.filters) < counts[layer.name] for layer in network.layers]
    plan = PruningPlan.from_masks(network, masks)
    assert set(plan.attributes) == {"width", "parts", "grouped", "decode.unflattened_size"}
    smaller = cut(model, network, plan)
    assert (smaller.width, smaller.parts, smaller.grouped) == (4, [2, 5], 5)
    assert tuple(smaller.decode.unflattened_size) == (3, 2, 2)
    assert verify_cut(model, network, plan, IMAGES) <= TOLERANCE
    assert (model.width, model.parts) == (6, [6, 8])


def test_sizes_written_into_forward_code_are_found_by_trial_and_pinned() -> None:
    network = trace_exactly(LiteralSizes(), IMAGES)
    causes = {p.name: p.cause for p in network.pinned}
    assert "its cut was tried and refused" in causes["conv3"].reason
    assert causes["conv3"].source.startswith("support/networks.py:")
    assert "halves" in {found.name for found in network.layers} ^ set(causes)


def test_filters_can_be_kept_by_decree() -> None:
    model = nn.Sequential(conv(3, 4), conv(4, 5), conv(5, 2))
    pin = Pin("1.weight", 0, np.array([0, 3]), Cause("protected"))
    network = trace(model, IMAGES, pins=[pin])
    assert [(found.name, found.filters) for found in network.layers] == [("0", 4), ("1", 3)]
    with pytest.raises(ValueError, match=r"no parameter 'nothing\.weight'"):
        trace(model, IMAGES, pins=[Pin("nothing.weight", 0, None, Cause("protected"))])


def test_two_examples_are_needed() -> None:
    with pytest.raises(ValueError, match="at least two examples"):
        trace(conv(3, 4), IMAGES[:1])


def test_an_input_that_does_not_fit_is_named_with_the_mode() -> None:
    with pytest.raises(ValueError, match=r"input of \(2, 3, 8, 8\) in evaluation mode"):
        trace(conv(4, 4), IMAGES)


def test_half_precision_networks_are_traced_too() -> None:
    assert trace(nn.Sequential(conv(3, 4), conv(4, 2)).half(), IMAGES.half()).layers[0].filters == 4
