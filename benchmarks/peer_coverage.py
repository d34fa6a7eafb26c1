"""Ask one system which networks it can cut, and check what they compute afterwards.

    python benchmarks/peer_coverage.py Secateur peers-coverage.json
    peers-venv/bin/python benchmarks/peer_coverage.py Torch-Pruning peers-coverage.json

is what ``peers.py --coverage`` does for each. A cut takes about 30 % of the filters. It is right if what is
left computes what the dense network computes with these filters at zero, in float64, and takes a training
step. Verdicts are written after each network; those that are there are not asked for again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zoo_networks
from peer_check import Verdict, brief, check_peer
from peer_cuts import AT_RANDOM

from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.networks import Architecture
from support.promises import assert_trains, masked_difference, random_plan, randomised
from support.published import classifiers

OURS = "Secateur"
SYSTEMS = (OURS, *AT_RANDOM)

CLASSIFIERS = (
    *("alexnet", "vgg11_bn", "resnet18", "googlenet", "densenet121", "squeezenet1_1", "mobilenet_v2"),
    *("shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
)
"""Networks of torchvision, one of each family."""


def architectures() -> list[Architecture]:
    """List the networks: small ones for 32x32 pixels, and torchvision's at 64x64."""
    families = (*zoo_networks.TRAINING_FAMILIES.values(), *zoo_networks.HELD_OUT_FAMILIES.values())
    small = [
        Architecture(name, getattr(zoo_networks, name), (3, 32, 32)) for part in families for name in part
    ]
    return [*small, *(found for found in classifiers() if found.name in CLASSIFIERS)]


def check(system: str, architecture: Architecture) -> Verdict:
    """Let a system cut a network, and check the result."""
    if system == OURS:
        return _check_ours(architecture)
    inputs = tuple(x.double() for x in architecture.example())
    traced = trace_exactly(randomised(architecture.model()), inputs)
    heads = [layer.name for layer in traced.pinned if layer.outputs]
    return check_peer(lambda: randomised(architecture.model()), inputs, heads, AT_RANDOM[system])


def _check_ours(architecture: Architecture) -> Verdict:
    inputs = tuple(x.double() for x in architecture.example())
    try:
        model = randomised(architecture.model())
        network = trace_exactly(model, inputs)
        plan = random_plan(network, 0.3)
        worst = masked_difference(model, network, plan, plan, inputs)
        if not worst <= TOLERANCE:
            return Verdict(True, f"differs from the masked network by {worst:.0e}")
        assert_trains(cut(model, network, plan), inputs)
    except Exception as error:  # any failure is a result
        return Verdict(False, brief(error))
    return Verdict(True)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read verdicts by system and network."""
    return json.loads(path.read_text()) if path.is_file() else {}


def table(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table of networks and systems."""
    lines = ["| network | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 1) + "|"]
    for architecture in architectures():
        cells = [_word(found.get(architecture.name)) for found in verdicts.values()]
        lines.append(f"| {architecture.name} | " + " | ".join(cells) + " |")
    counts = [
        f"{sum(not each['problem'] for each in found.values())} of {len(found)}"
        for found in verdicts.values()
    ]
    return "\n".join([*lines, "| right | " + " | ".join(counts) + " |"])


def _word(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    if not found["problem"]:
        return "right"
    if found["problem"].startswith(TimeoutError.__name__):
        return "no end"
    return "**wrong**" if found["runs"] else "fails"


def main() -> None:
    """Ask a system about the networks that are missing in the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    for architecture in architectures():
        verdicts = read(args.json)
        known = verdicts.setdefault(args.system, {})
        if architecture.name in known:
            continue
        began = time.process_time()
        verdict = check(args.system, architecture)
        seconds = round(time.process_time() - began, 1)
        known[architecture.name] = asdict(verdict) | {"seconds": seconds}
        args.json.write_text(json.dumps(verdicts, indent=1) + "\n")
        print(f"{args.system}: {architecture.name}: {verdict.problem or 'right'}, {seconds} s", flush=True)
        gc.collect()  # Torch-Pruning's graphs are reference cycles


if __name__ == "__main__":
    main()
