"""``nn.Module``s, without any knowledge of pruning."""
