"""What the ranks of torch.distributed agree on."""

import pytest

from secateur.envs.modules.ranks import any_rank, broadcast, first_decides, gather, in_unison, ranks, together
from support.rank_work import use_everything
from support.ranks import on_ranks


def test_a_process_alone_agrees_with_itself() -> None:
    assert ranks() == 1
    assert broadcast("x") == "x"
    assert gather("x") == ["x"]
    assert any_rank(True)
    assert not any_rank(False)
    assert first_decides(lambda: 3) == 3
    assert list(in_unison(iter("abc"))) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="mine"), together():
        raise ValueError("mine")


def test_ranks_get_the_same_objects_flags_decisions_and_errors() -> None:
    first, second = on_ranks(use_everything)
    for got in (first, second):
        assert got["broadcast"] == "from 0"
        assert got["gather"] == [0, 10]
        assert got["any"] == (False, True)
        assert got["decided"] == first["pid"]
        assert got["decided error"] == "ValueError: decided on 0"
        assert got["together"] == "ValueError: together with 1"
        assert got["in unison"] == "DataError: a file vanished"
        assert got["seen"] == [0, 1]
    assert second["pid"] != first["pid"]
    assert second["entered"] >= first["entered"]
