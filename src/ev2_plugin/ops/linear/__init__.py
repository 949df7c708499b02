"""The dense product at a chosen precision."""

from ev2_plugin.ops.linear.precision import PRECISIONS, Precision, linear, product

__all__ = ["PRECISIONS", "Precision", "linear", "product"]
