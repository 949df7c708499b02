"""Node features into the edge frames, and edge features back and summed at the receivers."""

from ev2_plugin.ops.edge_rotation.reference import gather_and_rotate, rotate_back_and_sum

__all__ = ["gather_and_rotate", "rotate_back_and_sum"]
