"""What compensation promises: the least-squares share of every removed channel, and nothing else.

Shapes: B images, C channels, R removed ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.agent.deciders.baselines import Baseline
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.compensation import Compensation
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import R2, TensorTask, measure
from secateur.envs.tracing import TracedNetwork

IMAGES = 96


def images_of(shape: tuple[int, ...]) -> TensorTask:
    """Make a task of smooth random images, all of which compensation looks at."""
    torch.manual_seed(0)
    inputs = torch.randn(IMAGES, *shape).cumsum(-1) / 3
    split = (inputs, torch.zeros(IMAGES, 1))
    return TensorTask(train=split, val=split, test=split, loss=nn.functional.mse_loss, metric=R2())


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network, and what is removed of it."""

    model: nn.Module
    network: TracedNetwork
    task: TensorTask
    masks: list[Mask]

    @classmethod
    def of(
        cls, model: nn.Module, removed: dict[str, list[int]], shape: tuple[int, ...] = (3, 8, 8)
    ) -> Setting:
        network = trace_exactly(model.eval(), torch.zeros(2, *shape))
        masks = [np.ones(layer.filters, np.bool_) for layer in network.layers]
        by_name = {layer.name: mask for layer, mask in zip(network.layers, masks, strict=True)}
        for name, filters in removed.items():
            by_name[name][filters] = False
        return cls(model, network, images_of(shape), masks)

    def smaller(self, images: int = IMAGES) -> nn.Module:
        compensation = Compensation(self.model, self.network, self.task, images=images)
        compensated = compensation.compensated_copy(self.model, self.masks)
        return cut(compensated, self.network, PruningPlan.from_masks(self.network, self.masks)).eval()

    @torch.no_grad()
    def error(self, smaller: nn.Module) -> float:
        """Give the largest difference from the dense network's answers, as a share of their size."""
        inputs, _ = self.task.batch("train", torch.arange(IMAGES))
        dense = self.model(inputs)
        return float((smaller(inputs) - dense).abs().max() / dense.abs().max())


def duplicated(*convolutions: nn.Module) -> None:
    """Make filter 1 three times filter 0, so that 0 can stand in for 1."""
    with torch.no_grad():
        for convolution in convolutions:
            for parameter in convolution.parameters():
                parameter[1] = 3 * parameter[0]


def plain() -> nn.Module:
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
    duplicated(first)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))


def without_biases() -> nn.Module:
    model = plain()
    for module in (model[0], model[2], model[5]):
        module.bias = None
    return model


def flattened() -> nn.Module:
    first = nn.Conv2d(3, 6, 3)
    duplicated(first)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 1))


def grouped() -> nn.Module:
    first = nn.Conv2d(3, 6, 3)
    duplicated(first)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter[4] = 2 * parameter[3]  # that of the other group
    second = nn.Conv2d(6, 4, 3, groups=2)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))


def transposed() -> nn.Module:
    first = nn.Conv2d(3, 6, 3)
    duplicated(first)
    return nn.Sequential(first, nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2), nn.Flatten(), nn.Linear(576, 1))


class Concatenated(nn.Module):
    """One convolution reads two others, the second of which holds a copy of the first's filter 0."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 4, 3)
        with torch.no_grad():
            self.one.weight[1] = 2 * self.two.weight[3]
            self.one.bias[1] = 2 * self.two.bias[3]
        self.both = nn.Conv2d(9, 4, 3)
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 1)."""
        both = torch.cat([self.one(x), self.two(x)], 1).relu()
        return self.head(self.both(both).relu().flatten(1))


class BesidePinned(nn.Module):
    """A convolution reads a prunable layer, and the image, which holds a copy of one of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 5, 1)
        with torch.no_grad():
            self.one.weight[1] = torch.tensor([0.0, 0.0, 2.0]).view(3, 1, 1)
            self.one.bias[1] = 0.5
        self.both = nn.Conv2d(8, 4, 3)
        self.head = nn.Linear(144, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 1)."""
        return self.head(self.both(torch.cat([self.one(x), x], 1)).relu().flatten(1))


@pytest.mark.parametrize(
    ("build", "first"),
    [
        (plain, "0"),
        (without_biases, "0"),
        (flattened, "0"),
        (grouped, "0"),
        (transposed, "0"),
        (Concatenated, "one"),
        (BesidePinned, "one"),
    ],
)
def test_a_channel_that_follows_from_others_is_made_up_for(build: type[nn.Module], first: str) -> None:
    torch.manual_seed(1)
    setting = Setting.of(build(), {first: [1]})
    assert setting.error(setting.smaller(images=0)) > 0.1
    assert setting.error(setting.smaller()) < 0.01


def test_with_batchnorm_its_statistics_make_up_for_the_mean() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(64, 1),
    )
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].bias[0] += 20.0  # both beyond the kink of ReLU: one is the other and a constant
        model[0].bias[1] = model[0].bias[0] + 0.5
    setting = Setting.of(model, {"0": [1]})
    reestimate_batchnorm(model, setting.task, images=IMAGES)
    errors = []
    for images in (0, IMAGES):
        smaller = setting.smaller(images)
        reestimate_batchnorm(smaller, setting.task, images=IMAGES)
        errors.append(setting.error(smaller))
    assert errors[0] > 0.05
    assert errors[1] < 0.02


@pytest.mark.parametrize("bias", [True, False])
def test_what_the_kept_channels_take_over_is_the_least_squares_fit(bias: bool) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3, bias=bias))
    model.append(nn.Flatten()).append(nn.Linear(32, 1))
    removed, kept = [0, 4], [1, 2, 3, 5]
    setting = Setting.of(model, {"0": removed})
    inputs, _ = setting.task.batch("train", torch.arange(IMAGES))
    read = model[:2](inputs).detach().transpose(0, 1).flatten(1).T.double().numpy()  # (samples, C)
    known = np.column_stack([read[:, kept], np.ones(len(read))]) if bias else read[:, kept]
    solved = torch.from_numpy(np.linalg.lstsq(known, read[:, removed])[0]).float()  # (kept [+ 1], R)
    old, new = model[2], setting.smaller()[2]
    expected = old.weight[:, kept] + torch.einsum("kr,orhw->okhw", solved[:4], old.weight[:, removed])
    torch.testing.assert_close(new.weight, expected, atol=5e-3, rtol=0.02)
    if bias:
        shift = old.weight[:, removed].sum((2, 3)) @ solved[4]
        torch.testing.assert_close(new.bias, old.bias + shift, atol=5e-3, rtol=0.02)


def test_without_images_channels_just_go() -> None:
    setting = Setting.of(plain(), {"0": [1, 2], "2": [0]})
    bare = cut(setting.model, setting.network, PruningPlan.from_masks(setting.network, setting.masks))
    inputs, _ = setting.task.batch("train", torch.arange(IMAGES))
    torch.testing.assert_close(setting.smaller(images=0)(inputs), bare(inputs))


def test_the_dense_network_and_the_modes_are_left_as_they_were() -> None:
    setting = Setting.of(plain(), {"0": [1]})
    setting.model[2].train()
    before = {name: tensor.clone() for name, tensor in setting.model.state_dict().items()}
    setting.smaller()
    assert all(torch.equal(tensor, before[name]) for name, tensor in setting.model.state_dict().items())
    assert [module.training for module in setting.model] == [False, False, True, False, False, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in setting.model.modules())


def test_what_cannot_be_watched_loses_its_channels() -> None:
    class Functional(nn.Module):
        """Read by a function, which nobody can watch."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 3), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            """(B, 3, 8, 8) -> (B, 1)."""
            return self.head(nn.functional.conv2d(self.one(x).relu(), self.two.weight).flatten(1))

    transposed_groups = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, 2, groups=2),
        nn.Flatten(),
        nn.Linear(576, 1),
    )
    for model in (Functional(), transposed_groups):
        network = trace_exactly(model.eval(), torch.zeros(2, 3, 8, 8))
        setting = Setting.of(model, {network.layers[0].name: [1]})
        bare = cut(model, setting.network, PruningPlan.from_masks(setting.network, setting.masks))
        for one, other in zip(setting.smaller().parameters(), bare.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def test_each_group_of_a_convolution_has_a_fit_of_its_own() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2))
    model.append(nn.Flatten()).append(nn.Linear(64, 1))
    setting = Setting.of(model, {"0": [1]})  # channel 1 of each group: 1 and 4
    inputs, _ = setting.task.batch("train", torch.arange(IMAGES))
    read = model[:2](inputs).detach().transpose(0, 1).flatten(1).T.double().numpy()  # (samples, C)
    new = setting.smaller()[2]
    assert (new.groups, new.weight.shape[1]) == (2, 2)
    for group, (removed, kept) in enumerate([(1, [0, 2]), (4, [3, 5])]):
        known = np.column_stack([read[:, kept], np.ones(len(read))])
        solved = torch.from_numpy(np.linalg.lstsq(known, read[:, [removed]])[0]).float()  # (kept + 1, 1)
        rows = slice(2 * group, 2 * group + 2)
        old = model[2].weight[rows]
        expected = old[:, [0, 2]] + torch.einsum("kr,orhw->okhw", solved[:2], old[:, [1]])
        torch.testing.assert_close(new.weight[rows], expected, atol=0.02, rtol=0.02)
        shift = old[:, [1]].sum((2, 3)) @ solved[2]
        torch.testing.assert_close(new.bias[rows], model[2].bias[rows] + shift, atol=0.02, rtol=0.02)


def test_channels_far_from_zero_are_fitted_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 1))
    duplicated(model[0])
    with torch.no_grad():
        model[0].bias += 3000.0
    setting = Setting.of(model, {"0": [1]})
    assert setting.error(setting.smaller()) < 1e-3


def test_constant_channels_do_no_harm() -> None:
    model = plain()
    with torch.no_grad():
        model[0].bias[2:5] = -100.0  # dead behind ReLU
    setting = Setting.of(model, {"0": [0, 2]})
    assert all(torch.isfinite(parameter).all() for parameter in setting.smaller().parameters())
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    assert setting.error(setting.smaller()) < 1e-5
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(6.7)  # constant, and not dead: what is removed is a part of the next layer's bias
    assert setting.error(setting.smaller()) < 1e-5


def test_the_demo_keeps_more_with_it(problem: PruningProblem) -> None:
    plan = PruningPlan.from_masks(
        problem.network, Baseline.from_name("l2-uniform").decide(problem, 0.2, "macs")[0]
    )
    found = []
    for model in (problem.cut(plan), cut(problem.model, problem.network, plan)):
        reestimate_batchnorm(model, problem.task)
        found.append(measure(model, problem.task, "test").accuracy)
    assert found[0] > found[1] + 3
