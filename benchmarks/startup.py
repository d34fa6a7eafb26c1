"""Measure the start-up time of the command line, as a share of that of importing torch and torchvision.

    python benchmarks/startup.py runs/demo

CPU seconds of whole processes, the minimum of several; the ratio is about the same on any machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from secateur.envs.io.atomic_write import write_atomically

BUDGET = 1.5 / 7.0
"""Largest ratio: 1.5 s on a machine where torch and torchvision take 7 s."""

VERBS = ("inspect", "prune", "train", "resume", "evaluate", "export", "frontier", "report", "runs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run of secateur prune; not changed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="JSON file for the rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        copy.mkdir()
        (copy / "report.json").write_text((args.run / "report.json").read_text())
        commands = [
            ["--help"],
            *([verb, "--help"] for verb in VERBS),
            ["runs", folder],
            ["report", str(copy)],
        ]
        torch = cpu_seconds(["-c", "import torch, torchvision"], args.repeats)
        rows = []
        print(f"import torch, torchvision: {torch:.2f} CPU s\n")
        print(f"| command | CPU s | of that | within {BUDGET:.1%} |")
        print("|---|---|---|---|")
        for command in commands:
            seconds = cpu_seconds(["-m", "secateur", *command], args.repeats)
            words = " ".join(["secateur", *command]).replace(str(copy), "RUN").replace(folder, "RUNS")
            rows.append({"command": words, "seconds": seconds, "ratio": seconds / torch})
            print(f"| `{words}` | {seconds:.2f} | {seconds / torch:.1%} | {seconds <= BUDGET * torch} |")
    if args.json:
        text = json.dumps({"torch_seconds": torch, "budget": BUDGET, "rows": rows}, indent=1) + "\n"
        write_atomically(args.json, lambda aside: aside.write_text(text))


def cpu_seconds(arguments: list[str], repeats: int) -> float:
    """Run Python several times, and return the minimum CPU seconds of all threads."""
    return min(_once(arguments) for _ in range(repeats))


def _once(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
