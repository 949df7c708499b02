"""Node features into the edge frames, and edge features back and summed at the receivers."""

from ev2_plugin.ops.edge_rotation import lean, reference

__all__ = ["lean", "reference"]
