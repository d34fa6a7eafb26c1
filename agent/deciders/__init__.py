"""Who decides which filters stay."""
