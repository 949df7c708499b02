"""Edges: who sends to whom, along which vector."""

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.neighbors import NeighborRule, radius_graph

__all__ = ["EdgeGraph", "NeighborRule", "radius_graph"]
