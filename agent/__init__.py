"""Who decides: policies, their training, and the whole job from a dense network to a pruned one."""
