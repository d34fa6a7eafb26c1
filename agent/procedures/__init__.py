"""Procedures: the whole job, from a dense network to a pruned one."""
