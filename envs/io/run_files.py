"""Names of the files in a run folder."""

CONFIG = "config.yaml"
"""The configuration of the run."""

PLAN = "plan.json"
"""The kept filters of each layer."""

WEIGHTS = "model.safetensors"
"""The tensors of the pruned network."""

REPORT = "report.json"
"""All measurements."""

PAGE = "report.html"
"""The report as a web page."""

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
