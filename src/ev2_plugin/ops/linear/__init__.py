"""The dense product at a chosen precision."""

from ev2_plugin.ops.linear.precision import Precision, linear, product

__all__ = ["Precision", "linear", "product"]
