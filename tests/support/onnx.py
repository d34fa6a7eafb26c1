"""Tests that need the extra ``onnx``."""

from __future__ import annotations

import importlib.util

import pytest

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="ONNX is the extra 'onnx': pip install 'secateur[onnx]'",
)
