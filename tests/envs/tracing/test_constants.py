"""A tensor made from numbers has the size of what it meets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.tracing import trace
from support.exactness import IMAGES, Around, reasons, traced_and_cut


def shifted_in_time(x: Tensor) -> Tensor:
    """Shift a part of the pixels down, with zeros in front."""
    return torch.cat([torch.zeros(*x.shape[:2], 1, 8, dtype=x.dtype), x[:, :, :-1]], 2)


def interleaved(x: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], x.shape[1], 16, 16, dtype=x.dtype)
    for row in (0, 1):
        for column in (0, 1):
            out[:, :, row::2, column::2] = x * (1 + row + 2 * column)
    return out


def flattened_room(x: Tensor) -> Tensor:
    room = torch.zeros(len(x), x[0].numel(), dtype=x.dtype).view(x.shape)
    return room + x


def rows_of_a_buffer(x: Tensor) -> Tensor:
    room = x.new_zeros(x.shape)
    room[:, :, torch.arange(4)] = x[:, :, 4:]
    return room


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x + torch.ones(x.shape[1], 1, 1),
        lambda x: x * torch.full(x.shape, 0.5, dtype=x.dtype),
        lambda x: torch.maximum(x, torch.zeros(x.shape, dtype=x.dtype)),
        lambda x: F.pad(x, (2, 1, 1, 2), mode="circular"),
        lambda x: F.pad(x, (2, 1, 1, 2), mode="replicate"),
        lambda x: F.pad(x, (2, 1, 1, 2), mode="reflect"),
        shifted_in_time,
        interleaved,
        flattened_room,
        rows_of_a_buffer,
        lambda x: torch.stack([x, torch.zeros_like(x), x.new_zeros(x.shape)]).sum(0),
        lambda x: (x.flatten(1) + torch.ones(x[0].numel(), dtype=x.dtype)).view(x.shape),
    ],
)
def test_a_constant_pins_nothing(between: object) -> None:
    assert traced_and_cut(Around(between)).prunable_share == 1.0  # type: ignore[arg-type]


def test_channels_that_are_joined_with_a_constant_are_told_from_it() -> None:
    def widened(x: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(x), 2, 8, 8, dtype=x.dtype), x], 1)

    network = traced_and_cut(Around(widened, second=10))
    assert network.prunable_share == 1.0
    columns = next(s for s in network.layers[0].slices if s.parameter == "second.weight" and s.axis == 1)
    assert columns.index.ravel().tolist() == list(range(2, 10))


def test_what_is_written_side_by_side_has_the_labels_of_its_parts() -> None:
    class Both(Around):
        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            room = torch.zeros(len(x), y.shape[1] + 3, 8, 8, dtype=x.dtype)
            room[:, :3], room[:, 3:] = x, y
            return self.head(self.second(room).mean((2, 3)))

    network = traced_and_cut(Both(F.relu, second=11))
    assert [layer.filters for layer in network.layers] == [8, 6]


def test_positions_are_no_constant() -> None:
    network = traced_and_cut(Around(lambda x: x * torch.arange(8)[:, None, None]))
    assert reasons(network) == {"first": "channels meet a tensor whose size is fixed"}


def test_a_state_that_a_module_makes_from_its_attribute_follows_the_cut() -> None:
    class Cell(nn.Module):
        """A convolutional LSTM of three steps."""

        def __init__(self, hidden: int = 6) -> None:
            super().__init__()
            self.hidden, self.gates = hidden, nn.Conv2d(3 + hidden, 4 * hidden, 3, padding=1)
            self.head = nn.Conv2d(hidden, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(len(x), self.hidden, *x.shape[2:])
            for _ in range(3):
                i, f, o, g = self.gates(torch.cat([x, h], 1)).split(self.hidden, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return self.head(F.normalize(h, dim=1))

    network = traced_and_cut(Cell())
    assert network.prunable_share == 1.0
    assert [layer.filters for layer in network.layers] == [6]


def test_a_large_constant_costs_no_label_for_each_pixel() -> None:
    class Masked(Around):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * torch.ones(3, 3, 1000, 1000)[..., :8, :8].to(x))

    network = trace(Masked(F.relu), IMAGES)
    assert network.prunable_share == 1.0
