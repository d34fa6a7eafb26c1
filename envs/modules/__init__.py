"""Helpers for ``nn.Module``s that know nothing of pruning."""
