"""The Triton forms as they can run here: compiled on an NVIDIA GPU, elsewhere through Triton's interpreter.

Triton chooses when a kernel is defined, those of its own library included, so the environment variable must be set
while `triton` is imported. Other modules may have imported it before (torch's compiler does): it is imported afresh
here, but for its compiled part, and the environment is left as it was, so nothing else takes the kernels for usable.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from unittest.mock import patch

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _interpreted() -> AbstractContextManager[object]:
    return patch.dict(os.environ, TRITON_INTERPRET="1") if DEVICE.type == "cpu" else nullcontext()


def _forget_triton() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "triton" and "_C" not in name.split(".")]:
        del sys.modules[name]


if DEVICE.type == "cpu":
    _forget_triton()
with _interpreted():
    pytest.importorskip("triton", reason="the kernels need the package triton")
    from ev2_plugin.ops.attention_scatter import triton as attention
    from ev2_plugin.ops.edge_rotation import triton as rotation
    from ev2_plugin.ops.linear import triton as linear
    from ev2_plugin.ops.sphere_activation import triton as sphere

    with suppress(ModuleNotFoundError):  # newer versions import it at the first launch
        import_module("triton.experimental.gluon")

__all__ = ["DEVICE", "attention", "linear", "rotation", "sphere"]
