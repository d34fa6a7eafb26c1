"""Deciders: methods that choose which filters stay."""
