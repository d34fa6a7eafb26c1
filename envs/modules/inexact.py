"""What a cut may change beyond removing channels, if the user allows it."""

INEXACT = ("layernorm",)
"""The averages of normalisations over all channels of an example: layer norm, and group norm of one group."""
