"""Node features -> messages in the edge frames -> first SO(2) convolution."""

from ev2_plugin.ops.edge_convolution import reference, remade
from ev2_plugin.ops.edge_convolution.reference import RadialWeights

__all__ = ["RadialWeights", "reference", "remade"]
