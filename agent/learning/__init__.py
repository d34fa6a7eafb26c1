"""The policy, and how it learns."""
