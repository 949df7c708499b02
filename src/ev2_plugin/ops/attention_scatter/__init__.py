"""Attention weights over the edges of each receiver."""

from ev2_plugin.ops.attention_scatter import fused, reference
from ev2_plugin.ops.attention_scatter.reference import LogitParameters

__all__ = ["LogitParameters", "fused", "reference"]
