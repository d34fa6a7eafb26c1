"""Files that were damaged, or made to do harm, and what they were made from."""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.policy import FilterScorer
from secateur.envs.models import get_model
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES
from secateur.envs.surgery.cutting import cut, save_pruned
from secateur.envs.surgery.verification import trace_exactly
from support.networks import SizesByAttribute
from support.promises import random_plan

Damage = Callable[[Path], object]
Corpus = dict[str, tuple[Damage, str]]
"""By name, what is done to a folder, and a part of the line that it gets."""

HUGE = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}


def save_agent(folder: Path) -> None:
    torch.manual_seed(0)
    scorer = FilterScorer(len(FILTER_FEATURES), len(LAYER_FEATURES), 16)
    FrozenAgent(scorer, {"networks": ["demo"], "reward": {"drop_bound": 2.0}}).save(folder)


def save_run(folder: Path) -> None:
    """Save a pruned network whose forward code reads its sizes from attributes."""
    model = SizesByAttribute()
    network = trace_exactly(model, torch.zeros(2, 3, 8, 8))
    plan = random_plan(network, 0.5)
    save_pruned(cut(model, network, plan), plan, folder)


def demo() -> nn.Module:
    torch.manual_seed(0)
    return get_model("demo", num_classes=10, in_channels=1)


def write(name: str, content: bytes | str) -> Damage:
    return lambda folder: (folder / name).write_bytes(
        content.encode() if isinstance(content, str) else content
    )


def change_json(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


def update(**changes: Any) -> Callable[[Any], Any]:
    return lambda content: content | changes


def change_tensors(name: str, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        save_file(dict(change(load_file(folder / name))), folder / name)

    return damage


def first(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Change the first tensor that is not empty."""

    def changed(state: dict[str, Tensor]) -> dict[str, Tensor]:
        name = next(name for name, tensor in state.items() if tensor.is_floating_point())
        return state | {name: change(state[name]).contiguous()}

    return changed


def poke(value: float) -> Callable[[Tensor], Tensor]:
    def poked(tensor: Tensor) -> Tensor:
        flat = tensor.flatten().clone()
        flat[-1] = value
        return flat.view(tensor.shape)

    return poked


def truncate(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def safetensors(header: Any, data: bytes = b"", claimed: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


MANY = safetensors({str(k): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(20_000)})


def broken_tensors(name: str) -> Corpus:
    """Give what no safetensors file may be, whatever it is for."""
    refused = "cannot be read as weights"
    return {
        "cut off in the data": (truncate(name, 0.9), refused),
        "cut off in the header": (truncate(name, 0.01), refused),
        "empty": (write(name, b""), refused),
        "a header that is too long": (write(name, safetensors({}, claimed=2**62)), "its header claims"),
        "a header longer than the file": (write(name, safetensors({}, claimed=2**19)), refused),
        "a header that names too much": (write(name, MANY), "its header claims"),
        "a deep header": (write(name, safetensors(b"[" * 100_000)), refused),
        "a tensor larger than the file": (write(name, safetensors({"a": HUGE}, bytes(64))), refused),
        "a pickle": (write(name, pickle.dumps({"a": 1})), refused),
    }


AGENTS: Corpus = {
    "no card": (lambda f: (f / "agent.json").unlink(), "agent.json does not exist"),
    "no weights": (lambda f: (f / "agent.safetensors").unlink(), "agent.safetensors does not exist"),
    "no JSON": (write("agent.json", "{"), "cannot be read"),
    "no text": (write("agent.json", b"\xff\xfe\x00"), "cannot be read"),
    "deep JSON": (write("agent.json", "[" * 1000 + "]" * 1000), "nested more than 64 deep"),
    "deep objects": (write("agent.json", '{"a":' * 100_000), "nested more than 64 deep"),
    "a huge card": (write("agent.json", b'"' + bytes(20_000_000) + b'"'), "has 20,000,002 bytes"),
    "a list": (write("agent.json", "[]"), "has no format in agent.json"),
    "names twice": (write("agent.json", '{"format": 1, "format": 2}'), "'format' occurs twice"),
    "no number": (write("agent.json", '{"hidden": NaN}'), "it holds NaN"),
    "another format": (change_json("agent.json", update(format="agent-0")), "has the format 'agent-0'; this"),
    "other features": (change_json("agent.json", update(filter_features=["l1"])), "uses other features"),
    "no features": (change_json("agent.json", update(layer_features=None)), "uses other features"),
    "words for hidden": (change_json("agent.json", update(hidden="many")), "names 'many' hidden units"),
    "true for hidden": (change_json("agent.json", update(hidden=True)), "names True hidden units"),
    "too many hidden": (change_json("agent.json", update(hidden=10**9)), "names 1000000000 hidden units"),
    "other hidden": (change_json("agent.json", update(hidden=17)), "take both files from the same run"),
    "far more hidden": (change_json("agent.json", update(hidden=4096)), "do not fit its description"),
    "a word for a reward": (change_json("agent.json", update(trained_on={"reward": "high"})), "no object"),
    "a list of origins": (change_json("agent.json", update(trained_on=[1])), "no object"),
    "an endless bound": (
        change_json("agent.json", update(trained_on={"reward": {"drop_bound": 10**400}})),
        "drop bound of 1000",
    ),
    "other shapes": (
        change_tensors("agent.safetensors", first(lambda t: t[:1].clone())),
        "do not fit its description",
    ),
    "other names": (
        change_tensors("agent.safetensors", lambda s: {f"../../{k}": t for k, t in s.items()}),
        "do not fit",
    ),
    "undefined": (change_tensors("agent.safetensors", first(poke(math.nan))), "infinite or undefined"),
    "infinite": (change_tensors("agent.safetensors", first(poke(-math.inf))), "infinite or undefined"),
    "integers": (
        change_tensors("agent.safetensors", first(lambda t: t.int())),
        "is int32 instead",
    ),
    "complex": (
        change_tensors("agent.safetensors", first(lambda t: t.to(torch.complex64))),
        "is complex64 instead",
    ),
    **broken_tensors("agent.safetensors"),
}


def change_layer(**changes: Any) -> Damage:
    def change(plan: Any) -> Any:
        name = next(iter(plan["layers"]))
        return plan | {"layers": plan["layers"] | {name: plan["layers"][name] | changes}}

    return change_json("plan.json", change)


def attributes(**values: Any) -> Damage:
    return change_json("plan.json", update(attributes={k.replace("__", "."): v for k, v in values.items()}))


def rename(plan: Any, to: str) -> Any:
    (_, row), *rest = plan["layers"].items()
    return plan | {"layers": {to: row, **dict(rest)}}


RUNS: Corpus = {
    "no plan": (lambda f: (f / "plan.json").unlink(), "plan.json does not exist"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
    "no JSON": (write("plan.json", "{"), "plan.json: the plan is not JSON"),
    "deep JSON": (write("plan.json", "[" * 1000 + "]" * 1000), "nested more than 64 deep"),
    "a huge plan": (write("plan.json", bytes(20_000_000)), "has 20,000,000 bytes"),
    "no text": (write("plan.json", b"\xff"), "plan.json cannot be read"),
    "a list": (write("plan.json", "[]"), "not of the format"),
    "another format": (change_json("plan.json", update(format="secateur-plan-0")), "not of the format"),
    "a number for a layer": (
        change_json("plan.json", lambda p: p | {"layers": {"stem": 1}}),
        "layer 'stem' of the plan needs",
    ),
    "true for filters": (change_layer(filters=True), "needs 'filters', a number"),
    "no list": (change_layer(kept=3), "needs 'filters', a number"),
    "no layers": (change_json("plan.json", update(layers=3)), "'layers'"),
    "an index out of range": (change_layer(kept=[0, 10**6]), "keeps filter 1000000 of layer"),
    "an index below zero": (change_layer(kept=[-1, 0]), "keeps filter -1 of layer"),
    "an index twice": (change_layer(kept=[0, 0]), "sorted and without repetition"),
    "unsorted": (change_layer(kept=[1, 0]), "sorted and without repetition"),
    "a half": (change_layer(kept=[0.5]), "needs 'filters', a number"),
    "an emptied layer": (change_layer(kept=[]), "at least one filter has to stay"),
    "no filters": (change_layer(filters=0), "has to have 1 to"),
    "endless filters": (change_layer(filters=10**400), "has to have 1 to"),
    "other filters": (change_layer(filters=5, kept=[0]), "the weights lack"),
    "other kept": (change_layer(kept=[0]), "the weights lack"),
    "a path for a layer": (
        change_json("plan.json", lambda p: rename(p, "../../evil")),
        "cannot be a part",
    ),
    "a root for a layer": (change_json("plan.json", lambda p: rename(p, "/etc/passwd")), "does not have"),
    "a line in a layer": (change_json("plan.json", lambda p: rename(p, "a\nb\x1b[2J")), "names 'a?b?[2J'"),
    "another attribute": (attributes(encoder__width=3), "'encoder.width', which this network does not have"),
    "a method": (attributes(forward=3), "'forward', which this network does not have"),
    "a private one": (attributes(_version=1, _modules=[1]), "which"),
    "a class": (attributes(__class____x=3), "which"),
    "a flag": (attributes(training=3), "'training', which is no size"),
    "another size than its weight's": (attributes(stem__in_channels=1), "'stem.in_channels' to 1, the"),
    "groups that no weight has": (attributes(left__groups=3), "'left.groups' to 3, the weights to 1"),
    "a list for a module's size": (attributes(stem__out_channels=[6]), "'stem.out_channels' to (6,)"),
    "what is no size of a module": (attributes(stem__dilation=[1, 1]), "'stem.dilation', which is no size"),
    "a part of a tensor": (attributes(kernel__data=3), "'kernel.data', which this network does not have"),
    "a key of a module's dict": (attributes(_modules__stem=3), "'_modules.stem', which this network"),
    "a parameter": (attributes(kernel=3), "'kernel', which this network does not have"),
    "a larger size": (attributes(width=7), "'width', which is no size"),
    "a size of nothing": (attributes(width=0), "'width', which is no size"),
    "a list for a number": (attributes(width=[6]), "'width', which is no size"),
    "a longer list": (attributes(parts=[1, 1, 1]), "'parts', which is no size"),
    "no whole attribute": (attributes(width="6"), "attribute 'width' of the plan"),
    "undefined": (change_tensors("model.safetensors", first(poke(math.nan))), "infinite or undefined"),
    "infinite": (change_tensors("model.safetensors", first(poke(math.inf))), "infinite or undefined"),
    "integers": (
        change_tensors("model.safetensors", first(lambda t: t.long())),
        "is int64 instead",
    ),
    "bytes": (
        change_tensors("model.safetensors", first(lambda t: t.to(torch.float8_e4m3fn))),
        "is float8_e4m3fn instead",
    ),
    "an empty tensor": (change_tensors("model.safetensors", first(lambda t: t[:0])), "is (0,"),
    "a larger tensor": (
        change_tensors("model.safetensors", first(lambda t: t.repeat(9, *t.shape[1:]))),
        "dense",
    ),
    "another name": (
        change_tensors("model.safetensors", lambda s: s | {"../../evil": torch.zeros(1)}),
        "'../../evil' is in only one of them",
    ),
    **broken_tensors("model.safetensors"),
}


class Writes:
    """Write a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "executed"))


def saved(change: Callable[[dict[str, Any]], Any], legacy: bool = False) -> Damage:
    def damage(folder: Path) -> None:
        state = change(dict(demo().state_dict()))
        torch.save(state, folder / "dense.pt", _use_new_zipfile_serialization=not legacy)

    return damage


def compressed(folder: Path) -> None:
    """Write what claims and has 60 MB, in a file of 60 kB."""
    torch.save({"a": torch.zeros(15_000_000)}, folder / "plain.pt")
    deflated = zipfile.ZipFile(folder / "dense.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / "plain.pt") as plain, deflated as archive:
        for part in plain.infolist():
            archive.writestr(part.filename, plain.read(part))
    (folder / "plain.pt").unlink()


def claimed(legacy: bool) -> Damage:
    """Write tensors of four numbers that claim to be of 2 GB."""

    def damage(folder: Path) -> None:
        path = folder / "dense.pt"
        torch.save({"a": torch.zeros(1027)}, path, _use_new_zipfile_serialization=not legacy)
        small, large = b"M" + struct.pack("<H", 1027), b"J" + struct.pack("<i", 500_000_000)
        if legacy:
            path.write_bytes(path.read_bytes().replace(small, large))
            return
        with zipfile.ZipFile(path) as plain:
            parts = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content.replace(small, large) if name.endswith(".pkl") else content)

    return damage


def stretched(state: dict[str, Any]) -> dict[str, Any]:
    """Give one tensor that shows a single number 2 G times."""
    return state | {"hidden.bias": torch.zeros(1).expand(2**31)}


WEIGHTS: Corpus = {
    "nothing": (lambda f: None, "there is no weights file"),
    "words": (write("dense.pt", b"not a checkpoint"), "cannot be read as weights"),
    "cut off": (lambda f: (saved(dict)(f), truncate("dense.pt", 0.5)(f)), "cannot be read as weights"),
    "cut off, old": (lambda f: (saved(dict, True)(f), truncate("dense.pt", 0.5)(f)), "cannot be read as"),
    "a pickle that writes a file": (
        lambda f: (f / "dense.pt").write_bytes(pickle.dumps(Writes(f / "evil"))),
        "cannot be read as weights",
    ),
    "a checkpoint that writes a file": (
        lambda f: torch.save({"state_dict": Writes(f / "evil")}, f / "dense.pt"),
        r"save model.state_dict() instead of the model",
    ),
    "an old checkpoint that writes a file": (
        lambda f: torch.save(
            {"state_dict": Writes(f / "evil")}, f / "dense.pt", _use_new_zipfile_serialization=False
        ),
        "save model.state_dict() instead of the model",
    ),
    "compressed": (compressed, "it is compressed"),
    "claims": (claimed(legacy=False), "cannot be read as weights"),
    "claims, old": (claimed(legacy=True), "cannot be read as weights"),
    "a stretched number": (saved(stretched), "of another shape (hidden.bias (2147483648,)"),
    "a million lists": (write("dense.pt", b"\x80\x02" + b"]" * 3_000_000), "instructions to read"),
    "numbers for names": (saved(lambda s: dict(enumerate(s.values()))), "its keys are not all names"),
    "undefined": (saved(first(poke(math.nan))), "infinite or undefined numbers: "),
    "infinite": (saved(first(poke(math.inf))), "infinite or undefined numbers: "),
    "integers": (saved(first(lambda t: t.int())), "is int32 instead"),
    "complex": (saved(first(lambda t: t.to(torch.complex64))), "is complex64 instead of float32"),
    "paths for names": (
        saved(lambda s: {f"../../{k}\x1b[2J": t for k, t in s.items()}),
        "?[2J",
    ),
}
