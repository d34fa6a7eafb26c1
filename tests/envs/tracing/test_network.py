"""A trace as a person reads it."""

from __future__ import annotations

import torch

from secateur.envs.tracing import trace
from support.small import plain_network


def test_a_printed_trace_says_what_can_go_and_what_stays_and_why() -> None:
    shown = str(trace(plain_network(), torch.zeros(2, 1, 8, 8))).splitlines()
    assert shown[0] == "100.0% of the filters can go"
    assert shown[1] == "0: 10 filters; read by 3"
    assert shown[-1].endswith("10 of 10 filters stay: the network's output")
