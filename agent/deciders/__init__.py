"""Deciders: methods that choose the filters to keep."""
