"""What the flat form of options promises: what is written is read back, and what does not fit is named."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secateur.agent.commands import Prune, Train, Verb
from secateur.agent.commands.resume import interrupted
from secateur.agent.procedures.data_config import read_data_config
from secateur.agent.run.flat_options import (
    NOT_OPTIONS,
    convert,
    flat_options,
    from_flat,
    in_words,
    options_of,
    read_flat,
)

VERBS = get_args(Verb)


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a box."""

    width: int = 1
    height: float = 2.0


@dataclasses.dataclass(frozen=True)
class Colours(Size):
    """Colours of a box."""

    colours: tuple[str, ...] = ()
    kind: Literal["red", "blue"] | None = None


@dataclasses.dataclass(frozen=True)
class Box:
    """Make a box."""

    owner: str
    look: Colours = dataclasses.field(default_factory=lambda: Colours(width=3))
    place: Path | None = None


BOXES = st.builds(
    Box,
    owner=st.text(),
    look=st.builds(
        Colours,
        width=st.integers(),
        height=st.floats(allow_nan=False),
        colours=st.lists(st.text()).map(tuple),
        kind=st.sampled_from(["red", "blue", None]),
    ),
    place=st.none() | st.just(Path("here/there")),
)


@given(BOXES)
def test_what_yaml_holds_of_a_verb_is_the_verb(box: Box) -> None:
    assert from_flat(Box, yaml.safe_load(yaml.safe_dump(flat_options(box)))) == box


@pytest.mark.parametrize("kind", VERBS)
def test_the_names_of_a_verbs_options_are_unique(kind: type) -> None:
    assert max(Counter(option.name for option in options_of(kind)).values()) == 1
    assert not {option.name for option in options_of(kind)} & {*NOT_OPTIONS, "config", "help", "help_all"}


@pytest.mark.parametrize("kind", [verb for verb in VERBS if verb in (Prune, Train)])
def test_a_verb_with_the_defaults_is_read_back(kind: type) -> None:
    required = {o.name: ("demo",) for o in options_of(kind) if o.default is dataclasses.MISSING}
    verb = kind(**required)
    assert from_flat(kind, flat_options(verb)) == verb


def test_an_option_belongs_to_the_class_that_declares_it_and_has_the_default_of_its_place() -> None:
    found = {option.name: (option.group, option.default) for option in options_of(Box)}
    assert found == {
        "owner": (Box, dataclasses.MISSING), "width": (Size, 3), "height": (Size, 2.0),
        "colours": (Colours, ()), "kind": (Colours, None), "place": (Box, None),
    }  # fmt: skip
    assert from_flat(Box, {"owner": "me"}) == Box("me")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the option owner is missing"),
        ({"owner": "me", "widht": 3}, "there is no option 'widht', did you mean 'width'?"),
        ({"owner": "me", "width": 3.5}, "width is 3.5; give a whole number"),
        ({"owner": "me", "width": True}, "width is True; give a whole number"),
        ({"owner": "me", "width": None}, "width is None; give a whole number"),
        ({"owner": "me", "height": "tall"}, "height is 'tall'; give a number"),
        ({"owner": "me", "height": 10**400}, "give a number"),
        ({"owner": ["me"]}, r"owner is \['me'\]; give a text"),
        ({"owner": 3}, "owner is 3; give a text"),
        ({"owner": "me", "kind": "green"}, "kind is 'green'; give one of red, blue"),
        ({"owner": "me", "colours": {"a": 1}}, "give a list of texts"),
        ({"owner": "me", "look": {"width": 3}}, "there is no option 'look'"),
        ({"owner": "me", 3: 4}, "there is no option '3'"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_flat(Box, values)


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        (float, 1, 1.0),
        (float, "1e-3", 1e-3),  # YAML 1.1 takes it for a string
        (tuple[str, ...], [8, "conv1=4"], ("8", "conv1=4")),
        (tuple[str, ...], 8, ("8",)),
        (tuple[float, ...], [1, 0.5], (1.0, 0.5)),
        (tuple[int, int, int], [1, 8, 8], (1, 8, 8)),
        (Annotated[Path | None, "x"], "here", Path("here")),
        (str | Path | None, "here", "here"),
        (Path | None, None, None),
    ],
)
def test_values_become_what_the_option_takes(kind: Any, value: Any, converted: Any) -> None:
    found = convert(kind, value)
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize("kind", VERBS)
def test_what_an_option_takes_can_be_said(kind: type) -> None:
    for option in options_of(kind):
        assert not set("<>[]{}") & set(in_words(option.kind)), option


OLD = """\
verb: prune
command: secateur prune
model: resnet20
data: {data: cifar10, data_root: elsewhere, val_from: test}
%s: {round_to: ['8'], protect: [conv1], max_sparsity: []}
latency: {latency_batch: 4}
target_macs: 0.3
out: null
"""


@pytest.mark.parametrize("constraints", ["constraints", "limits"])
def test_runs_of_earlier_versions_which_nested_their_options_are_read(
    constraints: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(OLD % constraints)
    verb = interrupted(tmp_path)
    options = flat_options(verb)
    expected = {
        "model": "resnet20", "data": "cifar10", "data_root": "elsewhere", "val_from": "test",
        "round_to": ["8"], "protect": ["conv1"], "latency_batch": 4, "target_macs": 0.3, "out": str(tmp_path),
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected
    assert read_data_config(tmp_path).data == "cifar10"


@pytest.mark.parametrize("content", ["", "- a", "3", "text"])
def test_a_file_without_options_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml has no options"):
        read_flat(tmp_path / "mine.yaml")
