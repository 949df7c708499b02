"""Point-wise functions of the signal that coefficients describe on the sphere."""

from ev2_plugin.ops.sphere_activation import reference, tiled

__all__ = ["reference", "tiled"]
