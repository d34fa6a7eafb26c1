"""PPO beside the baselines on one trained network, at the same MACs.

    python benchmarks/pruning.py resnet20 --data cifar10-folder --weights resnet20-cifar10.safetensors --runs
    runs/r20

Every row is one `secateur prune` command, printed as it starts; a run whose report is there is not run again.
The runs with fine-tuning use the agent that the run without it trained, so both prune the same filters. Each
process gets one thread, two run at a time: on two cores that is faster than one process with two threads, and
other work on the machine cannot make the threads wait for each other.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from secateur.envs.rendering import figure_of_counts


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--runs", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--target-macs", default="0.5")
    parser.add_argument(
        "--methods", nargs="+", default=["ppo", "fpgm-global", "taylor-global-per-mac", "l2-uniform"]
    )
    parser.add_argument(
        "--fine-tuned", nargs="*", default=["ppo", "fpgm-global"], help="methods to fine-tune too"
    )
    parser.add_argument("--epochs", default="10", help="of fine-tuning")
    parser.add_argument("--evaluations", default="2000", help="of PPO")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="PNG of the filters that PPO kept")
    asked = parser.parse_args()

    with ThreadPoolExecutor(asked.jobs) as pool:
        chains = [
            pool.submit(run_chain, asked, method, seed) for seed in asked.seeds for method in asked.methods
        ]
        rows = [row for chain in chains for row in chain.result()]
    print_table(rows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")
    if asked.picture:
        draw(asked.runs / f"ppo-epochs0-seed{asked.seeds[0]}", asked.picture)


def run_chain(asked: argparse.Namespace, method: str, seed: str) -> list[dict[str, Any]]:
    """Prune without fine-tuning, then, if asked for, the same filters with it."""
    bare = asked.runs / f"{method}-epochs0-seed{seed}"
    common = [
        "--data",
        asked.data,
        "--weights",
        asked.weights,
        "--target-macs",
        asked.target_macs,
        "--seed",
        seed,
    ]
    decide = ["--method", method] if method != "ppo" else ["--evaluations", asked.evaluations]
    rows = [run([asked.model, *common, *decide, "--epochs", "0"], bare, method, seed)]
    if method in asked.fine_tuned:
        tuned = asked.runs / f"{method}-epochs{asked.epochs}-seed{seed}"
        decide = ["--method", method] if method != "ppo" else ["--agent", str(bare)]
        rows.append(run([asked.model, *common, *decide, "--epochs", asked.epochs], tuned, method, seed))
    return rows


def run(arguments: list[str], out: Path, method: str, seed: str) -> dict[str, Any]:
    """Run one command unless its report is there, and read the report."""
    words = ["secateur", "prune", *arguments, "--out", str(out)]
    if not (out / "report.json").is_file():
        print(shlex.join(words), flush=True)
        process = subprocess.run(
            [sys.executable, "-m", "secateur.agent", *words[1:]],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            sys.exit(f"{shlex.join(words)} failed: {process.stderr.strip().splitlines()[-1]}")
    report = json.loads((out / "report.json").read_text())
    return {
        "model": report["model"],
        "method": method,
        "seed": int(seed),
        "epochs": report["recovery"]["epochs"],
        "dense_accuracy": report["dense"]["accuracy"],
        "accuracy": report["pruned"]["accuracy"],
        "macs_ratio": report["ratios"]["macs"],
        "params_ratio": report["ratios"]["params"],
        "evaluations": report["search"]["evaluations"],
        "search_seconds": report["search"]["seconds"],
        "recovery_seconds": report["recovery"]["seconds"],
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table, mean and standard deviation over seeds."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["epochs"]].append(row)
    print(
        "\n| method | epochs | accuracy, % | MACs left | parameters left | search, s | recovery, s | seeds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (method, epochs), group in sorted(
        groups.items(), key=lambda item: (item[0][1], -mean(item[1], "accuracy"))
    ):
        accuracies = [row["accuracy"] for row in group]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(group) > 1 else ""
        print(
            f"| {method} | {epochs} | {mean(group, 'accuracy'):.2f}{spread} "
            f"| {mean(group, 'macs_ratio'):.1%} "
            f"| {mean(group, 'params_ratio'):.1%} | {mean(group, 'search_seconds'):.0f} "
            f"| {mean(group, 'recovery_seconds'):.0f} | {len(group)} |"
        )
    print(f"\ndense: {rows[0]['dense_accuracy']:.2f} %")


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
