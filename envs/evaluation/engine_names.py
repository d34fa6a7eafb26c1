"""The names of engines; no torch is imported for them, as help has to start fast."""

LOCAL, RAY = ENGINES = ("local", "ray")
"""On this machine, or by Ray; instead of a name, an address of a Ray cluster has a colon."""
