"""Recurrent layers after convolutions: channels go in, and hidden units go with all that reads them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.tracing import trace
from support.exactness import IMAGES, reasons, traced_and_cut


class Recurrent(nn.Module):
    """Read an image column by column, as text recognition does."""

    def __init__(self, kind: type[nn.RNNBase], **settings: object) -> None:
        super().__init__()
        self.body, self.rnn = nn.Conv2d(3, 8, 3, padding=1), kind(8, 6, **settings)  # type: ignore[arg-type]
        self.head = nn.Linear((self.rnn.proj_size or 6) * (1 + self.rnn.bidirectional), 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.body(x)).mean(2).permute(2, 0, 1)
        if self.rnn.batch_first:
            x = x.transpose(0, 1)
        return self.head(F.normalize(self.rnn(x)[0], dim=-1))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "settings",
    [{}, {"bidirectional": True, "batch_first": True}, {"num_layers": 2}, {"bias": False}],
    ids=["plain", "both ways", "two layers", "no bias"],
)
def test_a_recurrent_layer_loses_inputs_and_units(
    kind: type[nn.RNNBase], settings: dict[str, object]
) -> None:
    network = traced_and_cut(Recurrent(kind, **settings))
    assert network.prunable_share == 1.0
    assert {layer.name: layer.filters for layer in network.layers} == {"body": 8, "rnn": 6}


def test_a_projected_lstm_keeps_its_units_and_loses_projections() -> None:
    network = traced_and_cut(Recurrent(nn.LSTM, proj_size=4))
    assert {layer.name: layer.filters for layer in network.layers} == {"body": 8, "rnn": 4}


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_in_a_loop_loses_inputs_and_units(kind: type[nn.RNNCellBase]) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.cell, self.head = nn.Conv2d(3, 8, 3), kind(8, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for column in F.relu(self.body(x)).mean(2).unbind(2):
                state = self.cell(column, state)
            return self.head(state[0] if isinstance(state, tuple) else state)

    assert {layer.name: layer.filters for layer in traced_and_cut(Loop()).layers} == {"body": 8, "cell": 6}


def test_sequences_of_different_lengths_keep_their_channels_apart() -> None:
    class Packed(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.body(x)).mean(2).permute(2, 0, 1)
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([8, 6, 3]))
            return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0])

    assert traced_and_cut(Packed(nn.LSTM)).prunable_share == 1.0


def test_one_operation_and_its_steps_are_traced_alike() -> None:
    """On the CPU, oneDNN runs an LSTM in float32 as one operation; without it torch runs step by step."""
    model = Recurrent(nn.LSTM, bidirectional=True)
    with torch.backends.mkldnn.flags(enabled=False):
        steps = trace(model, IMAGES)
    one = trace(model, IMAGES)
    assert [(la.name, la.filters) for la in one.layers] == [(la.name, la.filters) for la in steps.layers]
    assert reasons(one) == reasons(steps) == {}
    assert one.macs(one.widths) == steps.macs(steps.widths)
