"""Compare the agent with baselines on CIFAR-10 at the same MACs, before and after recovery.

    python benchmarks/cifar10.py --data cifar10-folder --runs runs/cifar10 --weights
    resnet20=resnet20-cifar10.safetensors resnet56=resnet56-cifar10.safetensors vgg16=vgg16-taught.safetensors

    python benchmarks/cifar10.py --data cifar10-folder --runs runs/figures --weights
    resnet20=resnet20-cifar10.safetensors --methods agent-quick agent-normal fpgm-global l2-global l1-uniform
    l2-uniform taylor-global-per-mac --recipe long --epochs 90 --minutes 60 --json benchmarks/figures.json

Each row of the table is the mean over `secateur prune` runs with different seeds; their commands are printed.
Runs with a row in the JSON file or with a report are not repeated, interrupted ones are resumed. So the table
can be completed on several machines, and each row names its machine. A run with recovery uses the agent of
the run without. After ``--minutes`` running ones are interrupted; the same command goes on with them. What is
still missing is listed at the end.

Two processes run at a time with one thread each: on two cores this is faster than one
process with two threads, which other load on the machine makes wait for each other.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar10_table import draw, print_table

from secateur.envs.io.atomic_write import write_atomically


@dataclass(frozen=True)
class Setting:
    """A network, its target, and a published result.

    Args:
        model: Name of the network.
        wish: Options for the target.
        methods: Methods to run without recovery.
        recovered: Methods to run with recovery.
        published: Published accuracy and dense accuracy.
    """

    model: str
    wish: str
    methods: tuple[str, ...]
    recovered: tuple[str, ...]
    published: str


FROZEN = "ppo frozen"
BASELINES = ("taylor-global-per-mac", "fpgm-global", "l2-uniform")
BARE = " as published"
"""Suffix of methods without compensation, as they are published."""
QUICK, NORMAL = "agent-quick", "agent-normal"
"""Secateur as it comes, with little effort and with what is usual: the agent's proposals and heuristics'."""

HEURISTICS = ("fpgm-global", "l2-global", "l1-uniform", "l2-uniform", "taylor-global-per-mac")
FIGURES = (QUICK, NORMAL, *HEURISTICS)
METHODS = (FROZEN, *BASELINES, *(method + BARE for method in BASELINES), "ppo")
ALL_METHODS = tuple(dict.fromkeys((*METHODS, *FIGURES)))
RECOVERED = ("ppo", FROZEN, "fpgm-global")
RECIPES = {
    "": "",
    "long": "--schedule rewinding --learning-rate 0.1 --distillation-weight 0.9 --ema-decay 0.999 "
    "--train-on-val",
}
"""Options of the recovery: the program's own; or the rate rewound to 0.1 (Renda et al. 2020, arXiv
2003.02389), the dense network as a strong teacher, the average of the weights, and val in train."""

LAYERWISE = "--procedure layerwise --drop-bound 2 --val-from test"
"""Options of Huang et al.'s procedure, which fine-tunes after each layer. Its bound needs unseen images."""

MOBILENET = "mobilenetv2_cifar:mobilenetv2"
"""A factory in this folder; ``dense.py`` trains it."""

SETTINGS = (
    Setting("resnet20", "--target-macs 0.5", METHODS, (), ""),
    Setting(
        "resnet20",
        "--target-macs 0.455",
        (FROZEN, "ppo", *FIGURES),
        ("ppo", FROZEN, *FIGURES),
        "Hinge 91.84 from 92.54",
    ),
    Setting(
        "resnet56",
        "--target-macs 0.47",
        (*METHODS, *FIGURES),
        (*RECOVERED, *FIGURES),
        "DepGraph 93.77 from 93.53",
    ),
    Setting("resnet56", "--target-macs 0.28", FIGURES, FIGURES, "CORING 92.84"),
    Setting(
        "vgg16", "--target-macs 0.35", (*METHODS, *FIGURES), (*RECOVERED, *FIGURES), "DECORE 93.56 from 93.96"
    ),
    Setting("vgg16", "--target-macs 0.1", FIGURES, FIGURES, "DECORE 92.44 at 18 % of the MACs"),
    Setting("vgg16", LAYERWISE, (), ("ppo",), ""),
    Setting(MOBILENET, "--target-macs 0.5", FIGURES, FIGURES, ""),
    Setting(MOBILENET, "--target-macs 0.25", FIGURES, FIGURES, ""),
)


@dataclass(frozen=True)
class Run:
    """One `secateur prune` run.

    Args:
        setting: The network and its target.
        method: The method that chooses the filters.
        seed: Seed of the run.
        epochs: Recovery epochs.
        recipe: A name of ``RECIPES``.
    """

    setting: Setting
    method: str
    seed: str
    epochs: str
    recipe: str = ""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        wish = self.setting.wish.replace("--", "").replace(" ", "-")
        model, method = self.setting.model.split(":")[-1], self.method.replace(" ", "-")
        recipe = f"-{self.recipe}" if self.recipe else ""
        return f"{model}-{wish}-{method}-epochs{self.epochs}{recipe}-seed{self.seed}"

    def agent(self, runs: Path) -> Path | None:
        """Folder of the agent for a run with recovery: that of the run without."""
        searched = self.method in ("ppo", NORMAL) and self.setting.wish != LAYERWISE
        return runs / replace(self, epochs="0", recipe="").name if searched and self.epochs != "0" else None


def main() -> None:
    """Do the missing runs, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--weights",
        required=True,
        nargs="+",
        metavar="MODEL=FILE",
        help="weights of each network, NAME=FILE; only these networks are run",
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", default="10", help="recovery epochs; 0 for only the runs without")
    parser.add_argument("--recipe", default="", choices=RECIPES, help="options of the recovery")
    parser.add_argument("--targets", nargs="+", help="target MACs, such as 0.455; by default all")
    parser.add_argument("--methods", nargs="+", choices=ALL_METHODS, default=ALL_METHODS)
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="time limit; then runs are interrupted"
    )
    parser.add_argument("--json", type=Path, help="JSON file of rows to read and extend")
    parser.add_argument(
        "--picture", type=Path, help="PNG file for a picture of the filters that PPO kept in ResNet-20"
    )
    args = parser.parse_args()
    args.weights = dict(pair.split("=", 1) for pair in args.weights)
    args.until = time.monotonic() + 60 * args.minutes

    table = Table(args.json)
    for recovered in (False, True):  # runs without recovery first, as those with recovery use their agents
        with ThreadPoolExecutor(args.jobs) as pool:
            runs = [run for run in planned(args, recovered) if not table.holds(run, args)]
            list(pool.map(lambda run: table.add(perform(run, args)), runs))
    print_table(table.rows)
    missing = [
        run.name for late in (False, True) for run in planned(args, late) if not table.holds(run, args)
    ]
    print("\nmissing: " + (", ".join(missing) or "nothing"))
    if args.picture:
        draw(args.runs / Run(SETTINGS[0], "ppo", args.seeds[0], "0").name, args.picture)


def planned(args: argparse.Namespace, recovered: bool) -> Iterator[Run]:
    """List the runs with or without recovery, network by network."""
    if recovered and args.epochs == "0":
        return
    length = (args.epochs, args.recipe) if recovered else ("0", "")
    for setting in SETTINGS:
        is_wanted = args.targets is None or setting.wish.split()[-1] in args.targets
        if setting.model in args.weights and is_wanted:
            for method in dict.fromkeys(setting.recovered if recovered else setting.methods):
                for seed in args.seeds if method in args.methods else ():
                    yield Run(setting, method, seed, *length)


class Table:
    """The rows so far, saved to disk after each run.

    Args:
        file: JSON file to read and extend; None keeps the rows in memory.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.rows: list[dict[str, Any]] = json.loads(file.read_text()) if file and file.is_file() else []

    def holds(self, run: Run, args: argparse.Namespace) -> bool:
        """Return whether a run with these weights has a row."""
        wanted = identity(run, args)
        return any(wanted.items() <= row.items() and row.get("recipe", "") == run.recipe for row in self.rows)

    def add(self, row: dict[str, Any] | None) -> None:
        """Add and save a row, unless it is None."""
        with self._lock:
            self.rows += [row] if row else []
            if row and self._file:
                write_atomically(
                    self._file, lambda path: path.write_text(json.dumps(self.rows, indent=2) + "\n")
                )


def identity(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Return the values that identify a row."""
    return {
        "model": run.setting.model,
        "weights": Path(args.weights[run.setting.model]).name,
        "wish": run.setting.wish,
        "method": run.method,
        "seed": int(run.seed),
        "epochs": int(run.epochs),
        **({"recipe": run.recipe} if run.recipe else {}),  # older rows do not have it
    }


def perform(run: Run, args: argparse.Namespace) -> dict[str, Any] | None:
    """Run one command, unless its report exists, and read the report; None if the time is up."""
    out = args.runs / run.name
    if (agent := run.agent(args.runs)) and not (agent / "agent.json").is_file():
        perform(replace(run, epochs="0", recipe=""), args)
    if not (out / "report.json").is_file() and time.monotonic() > args.until:
        return None
    words = ["secateur", "prune", run.setting.model, "--data", args.data]
    words += ["--weights", args.weights[run.setting.model], *run.setting.wish.split(), "--seed", run.seed]
    words += ["--augment", "flip-crop"]
    if "--val-from" not in words:
        words += ["--val-from", "train"]  # all of test is reported on, as in the published results
    words += [*who_decides(run, args.runs), "--epochs", run.epochs, *RECIPES[run.recipe].split()]
    words += ["--out", str(out)]
    if not (out / "report.json").is_file():
        if (out / "config.yaml").is_file():
            words = ["secateur", "resume", str(out)]
        print(shlex.join(words), flush=True)
        if not finished(words[1:], args.until):
            return None
    report = json.loads((out / "report.json").read_text())
    return {
        **identity(run, args),
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


def finished(words: list[str], until: float) -> bool:
    """Run a command of Secateur until it ends, or interrupt it, so that it can be resumed."""
    here = str(Path(__file__).parent)
    paths = os.pathsep.join(
        filter(None, [here, os.environ.get("PYTHONPATH")])
    )  # for factories in this folder
    process = subprocess.Popen(
        [sys.executable, "-m", "secateur", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    interrupted = False
    try:
        _, errors = process.communicate(
            timeout=None if math.isinf(until) else max(1, until - time.monotonic())
        )
    except subprocess.TimeoutExpired:
        interrupted = True
        process.terminate()  # SIGINT is ignored in the background of a shell
        _, errors = process.communicate()
    if process.returncode and not interrupted:
        sys.exit(f"{shlex.join(words)} failed: {errors.strip().splitlines()[-1]}")
    return process.returncode == 0


def who_decides(run: Run, runs: Path) -> list[str]:
    """Return the options for the method."""
    if run.setting.wish == LAYERWISE:
        return []
    if run.method.endswith(BARE):
        return ["--method", run.method.removesuffix(BARE), "--compensation-images", "0"]
    if run.method in (*BASELINES, *HEURISTICS):
        return ["--method", run.method]
    if run.method in (QUICK, NORMAL) and not run.agent(runs):
        return ["--effort", run.method.removeprefix("agent-")]
    if run.method == FROZEN:
        return ["--evaluations", "0"]
    agent = run.agent(runs)
    return ["--agent", str(agent)] if agent else []


if __name__ == "__main__":
    main()
