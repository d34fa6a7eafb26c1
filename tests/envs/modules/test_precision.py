"""Where networks compute in bfloat16."""

import pytest
import torch

from secateur.envs.modules.precision import autocast, working_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_bfloat16_is_for_processors_with_instructions_for_it(
    instructions: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert working_dtype(CPU) is dtype
    network, images = torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 4, 4)
    with torch.no_grad(), autocast(CPU):
        assert network(images).dtype is dtype
    assert network.weight.dtype is torch.float32


def test_bfloat16_is_for_gpus_that_do_not_emulate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, fast=fast: fast)
        assert working_dtype(torch.device("cuda")) is dtype
