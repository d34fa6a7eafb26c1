"""Pruning procedures, from a dense network to a pruned one."""
