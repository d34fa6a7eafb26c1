"""The formats that a network can be exported to."""

from typing import Literal

Format = Literal["safetensors", "pt2", "onnx"]

Int8Format = Literal["onnx-int8", "torchao"]
"""Those of networks in int8."""
