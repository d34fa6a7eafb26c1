"""Names of the files in a run folder, and what is said of a folder that has none of them."""

from pathlib import Path

CONFIG = "config.yaml"
"""The configuration of the run."""

PLAN = "plan.json"
"""The kept filters of each layer."""

WEIGHTS = "model.safetensors"
"""The tensors of the pruned network."""

RANGES = "int8.json"
"""The ranges of activations in int8, of a run under quantisation."""

REPORT = "report.json"
"""All measurements."""

PAGE = "report.html"
"""The report as a web page."""

COMPARISON = "compare.json"
"""The numbers of a comparison; its folder holds those of its members."""

MEASURED = "measured.json"
"""The report of a comparison's member until its network is timed, when all members are finished."""

AGENT_CARD = "agent.json"
"""The features that an agent observes, and its training data."""

AGENT_WEIGHTS = "agent.safetensors"
"""The weights of an agent."""

CHECKPOINTS = "checkpoints"
"""Folder with the state for resuming a run; deleted when the run is finished."""

JOURNAL = "candidates.jsonl"
"""File in the checkpoint folder: every measured candidate."""

LATENCY = "latency.json"
"""File in the checkpoint folder: the network's latency table."""


def not_finished(folder: Path, file: str) -> str:
    """Say that the folder of a run has no network to read, and what to do.

    Args:
        folder: The folder.
        file: The file that it lacks.
    """
    if (folder / COMPARISON).is_file():
        return (
            f"{folder} is a comparison; give the folder of a run in it, which `secateur runs {folder}` lists"
        )
    return (
        f"{folder} is not a finished prune run: it has no {file}; see `secateur runs`, or go on with "
        f"`secateur resume {folder}`"
    )


def no_run(folder: Path, file: str = CONFIG) -> str:
    """Say that a folder is not that of a run, and what to give.

    Args:
        folder: The folder, which need not exist.
        file: The file that it lacks.
    """
    missing = f"it has no {file}" if folder.is_dir() else "there is no such folder"
    missing = "it is a file" if folder.is_file() else missing
    return (
        f"{folder} is not the folder of a run: {missing}; give the folder of one, which `secateur runs` lists"
    )
