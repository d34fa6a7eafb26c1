"""The formats that a network can be exported to."""

from typing import Literal

Format = Literal["safetensors", "pt2", "onnx"]
