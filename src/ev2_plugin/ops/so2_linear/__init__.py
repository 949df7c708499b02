"""The linear map that commutes with rotations about the edge."""

from ev2_plugin.ops.so2_linear import one_gemm, reference
from ev2_plugin.ops.so2_linear.reference import SO2Weights

__all__ = ["SO2Weights", "one_gemm", "reference"]
