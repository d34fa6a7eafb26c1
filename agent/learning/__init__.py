"""The policy and its training."""
