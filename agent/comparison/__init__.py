"""The comparison of systems of pruning: each runs in a folder of its own, all are measured alike."""
