"""Node features into the edge frames, and edge features back and summed at the receivers."""

from ev2_plugin.ops.edge_rotation import pytorch, reference

__all__ = ["pytorch", "reference"]
