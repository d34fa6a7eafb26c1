"""The names of the files that a run leaves behind."""

CONFIG = "config.yaml"
"""Everything that was asked for."""

PLAN = "plan.json"
"""The kept filters of each layer."""

WEIGHTS = "model.safetensors"
"""The tensors of the pruned network."""

REPORT = "report.json"
"""Everything that was measured."""

PAGE = "report.html"
"""The same for people."""

AGENT_CARD = "agent.json"
"""What an agent looks at, and what it was trained on."""

AGENT_WEIGHTS = "agent.safetensors"
"""The weights of an agent."""

CHECKPOINTS = "checkpoints"
"""A folder with what a run needs to go on; gone when the run is finished."""

JOURNAL = "candidates.jsonl"
"""Inside of it: every measured candidate."""

LATENCY = "latency.json"
"""Inside of it: the latencies of the network's layers."""
