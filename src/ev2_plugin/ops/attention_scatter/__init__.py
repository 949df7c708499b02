"""Attention weights over the edges of each receiver."""

from ev2_plugin.ops.attention_scatter.reference import softmax_by_receiver

__all__ = ["softmax_by_receiver"]
