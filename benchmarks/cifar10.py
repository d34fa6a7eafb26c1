"""The agent beside the baselines on CIFAR-10, at the same MACs, before and after recovery.

    python benchmarks/cifar10.py --data cifar10-folder --runs runs/cifar10 --weights
    resnet20=resnet20-cifar10.safetensors resnet56=resnet56-cifar10.safetensors vgg16=vgg16-taught.safetensors

Every line of the table is the mean of `secateur prune` commands, one a seed, which are printed as they start.
A run whose row is in the JSON file or whose report is there is not run again, and one that was stopped is
resumed; so the table grows from one machine to the next, and each row says where it was run. Recovery is run
on what the run without it decided. Each process gets one thread and two run at a time: on two cores that is
faster than one process with two threads, and other work on the machine cannot make the threads wait for each
other.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from secateur.envs.environment.rendering import figure_of_counts
from secateur.envs.io.atomic_write import write_atomically


@dataclass(frozen=True)
class Setting:
    """What a network is pruned to, and what others published for it.

    Args:
        model: The network.
        wish: Flags that say what is wanted.
        methods: Who decides, without recovery.
        recovered: Likewise, with recovery.
        published: Accuracy from its dense accuracy, by their authors.
    """

    model: str
    wish: str
    methods: tuple[str, ...]
    recovered: tuple[str, ...]
    published: str


FROZEN = "ppo frozen"
BASELINES = ("taylor-global-per-mac", "fpgm-global", "l2-uniform")
BARE = " as published"
"""Removed channels just go."""
METHODS = (FROZEN, *BASELINES, *(method + BARE for method in BASELINES), "ppo")
RECOVERED = ("ppo", FROZEN, "fpgm-global")
LAYERWISE = "--procedure layerwise --drop-bound 2 --val-from test"
"""Huang et al.'s own procedure; it recovers as it goes. A bound wants images not seen in training."""

SETTINGS = (
    Setting("resnet20", "--target-macs 0.5", METHODS, (), ""),
    Setting(
        "resnet20", "--target-macs 0.455", (FROZEN, "ppo", "fpgm-global"), RECOVERED, "Hinge 91.84 from 92.54"
    ),
    Setting("resnet56", "--target-macs 0.47", METHODS, RECOVERED, "DepGraph 93.77 from 93.53"),
    Setting("vgg16", "--target-macs 0.35", METHODS, RECOVERED, "DECORE 93.56 from 93.96"),
    Setting("vgg16", LAYERWISE, (), ("ppo",), ""),
)


@dataclass(frozen=True)
class Run:
    """One command.

    Args:
        setting: What is wanted.
        method: Who decides.
        seed: Of everything.
        epochs: Of recovery.
    """

    setting: Setting
    method: str
    seed: str
    epochs: str

    @property
    def name(self) -> str:
        """Name the run's folder."""
        wish = self.setting.wish.replace("--", "").replace(" ", "-")
        return (
            f"{self.setting.model}-{wish}-{self.method.replace(' ', '-')}-epochs{self.epochs}-seed{self.seed}"
        )

    def agent(self, runs: Path) -> Path | None:
        """Name the folder of the agent that decides about a run with recovery: of the run without."""
        searched = self.method == "ppo" and self.setting.wish != LAYERWISE
        return runs / replace(self, epochs="0").name if searched and self.epochs != "0" else None


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, nargs="+", metavar="MODEL=FILE", help="what is measured")
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--epochs", default="10", help="of recovery")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    parser.add_argument("--json", type=Path, help="holds what was run before, and gets what is run now")
    parser.add_argument("--picture", type=Path, help="PNG of the filters of ResNet-20 that PPO kept")
    asked = parser.parse_args()
    asked.weights = dict(pair.split("=", 1) for pair in asked.weights)
    asked.until = time.monotonic() + 60 * asked.minutes

    table = Table(asked.json)
    for recovered in (False, True):  # what needs no recovery first: it is quick and decides what is recovered
        with ThreadPoolExecutor(asked.jobs) as pool:
            runs = [run for run in planned(asked, recovered) if not table.holds(run, asked)]
            list(pool.map(lambda run: table.add(perform(run, asked)), runs))
    print_table(table.rows)
    if asked.picture:
        draw(asked.runs / Run(SETTINGS[0], "ppo", asked.seeds[0], "0").name, asked.picture)


def planned(asked: argparse.Namespace, recovered: bool) -> Iterator[Run]:
    """List the runs, network by network, those with or those without recovery."""
    for setting in SETTINGS:
        if setting.model in asked.weights:
            for method in setting.recovered if recovered else setting.methods:
                for seed in asked.seeds:
                    yield Run(setting, method, seed, asked.epochs if recovered else "0")


class Table:
    """The rows so far, on disk as soon as they are known.

    Args:
        file: Holds rows of earlier times and gets the new ones; None keeps them in memory.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.rows: list[dict[str, Any]] = json.loads(file.read_text()) if file and file.is_file() else []

    def holds(self, run: Run, asked: argparse.Namespace) -> bool:
        """Say whether a run was made, here or elsewhere, from these weights."""
        wanted = identity(run, asked)
        return any(wanted.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any] | None) -> None:
        """Write down a row, if it is one."""
        with self._lock:
            self.rows += [row] if row else []
            if row and self._file:
                write_atomically(
                    self._file, lambda path: path.write_text(json.dumps(self.rows, indent=2) + "\n")
                )


def identity(run: Run, asked: argparse.Namespace) -> dict[str, Any]:
    """Give what tells a row from all others."""
    return {
        "model": run.setting.model,
        "weights": Path(asked.weights[run.setting.model]).name,
        "wish": run.setting.wish,
        "method": run.method,
        "seed": int(run.seed),
        "epochs": int(run.epochs),
    }


def perform(run: Run, asked: argparse.Namespace) -> dict[str, Any] | None:
    """Run one command unless its report is there, and read the report; None where there is no time."""
    out = asked.runs / run.name
    if (agent := run.agent(asked.runs)) and not (agent / "agent.json").is_file():
        perform(replace(run, epochs="0"), asked)
    if not (out / "report.json").is_file() and time.monotonic() > asked.until:
        return None
    words = ["secateur", "prune", run.setting.model, "--data", asked.data]
    words += ["--weights", asked.weights[run.setting.model], *run.setting.wish.split(), "--seed", run.seed]
    words += [*who_decides(run, asked.runs), "--epochs", run.epochs, "--out", str(out)]
    if not (out / "report.json").is_file():
        if (out / "config.yaml").is_file():
            words = ["secateur", "resume", str(out)]
        print(shlex.join(words), flush=True)
        process = subprocess.run(
            [sys.executable, "-m", "secateur", *words[1:]],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            sys.exit(f"{shlex.join(words)} failed: {process.stderr.strip().splitlines()[-1]}")
    report = json.loads((out / "report.json").read_text())
    return {
        **identity(run, asked),
        "dense_accuracy": report["dense"]["accuracy"],
        "accuracy": report["pruned"]["accuracy"],
        "macs_ratio": report["ratios"]["macs"],
        "params_ratio": report["ratios"]["params"],
        "evaluations": report["search"]["evaluations"],
        "search_seconds": report["search"]["seconds"],
        "recovery_seconds": report["recovery"]["seconds"],
        "published": run.setting.published,
        "device": report["device"],
        "torch": report["versions"]["torch"],
    }


def who_decides(run: Run, runs: Path) -> list[str]:
    """Give the flags that say who decides."""
    if run.setting.wish == LAYERWISE:
        return []
    if run.method.endswith(BARE):
        return ["--method", run.method.removesuffix(BARE), "--compensation-images", "0"]
    if run.method in BASELINES:
        return ["--method", run.method]
    if run.method == FROZEN:
        return ["--evaluations", "0"]
    agent = run.agent(runs)
    return ["--agent", str(agent)] if agent else []


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table, mean and standard deviation over seeds."""
    print(
        "\n| network | wanted | dense, % | method | epochs | accuracy, % | MACs left | parameters left "
        "| candidates | search, s | recovery, s | seeds | published | device |"
    )
    print("|---" * 14 + "|")
    kinds = ("model", "weights", "wish", "epochs", "method")
    ordered = sorted(rows, key=lambda row: tuple(row[key] for key in kinds))
    for _, grouped in groupby(ordered, key=lambda row: tuple(row[key] for key in kinds)):
        group = list(grouped)
        row = group[0]
        accuracies = [each["accuracy"] for each in group]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(group) > 1 else ""
        print(
            f"| {row['model']} | `{row['wish']}` | {row['dense_accuracy']:.2f} | {row['method']} "
            f"| {row['epochs']} | {mean(group, 'accuracy'):.2f}{spread} | {mean(group, 'macs_ratio'):.1%} "
            f"| {mean(group, 'params_ratio'):.1%} | {mean(group, 'evaluations'):.0f} "
            f"| {mean(group, 'search_seconds'):.0f} | {mean(group, 'recovery_seconds'):.0f} | {len(group)} "
            f"| {row['published'] if row['epochs'] else ''} "
            f"| {', '.join(sorted({each['device'] for each in group}))} |"
        )


def draw(run_folder: Path, picture: Path) -> None:
    """Draw the layers of a run."""
    report = json.loads((run_folder / "report.json").read_text())
    names, filters, kept = ([layer[key] for layer in report["layers"]] for key in ("name", "filters", "kept"))
    title = f"{report['model']} pruned to {report['ratios']['macs']:.0%} of its MACs"
    figure_of_counts(names, filters, kept, title).savefig(picture, dpi=120)


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Average one column."""
    return statistics.mean(row[key] for row in rows)


if __name__ == "__main__":
    main()
