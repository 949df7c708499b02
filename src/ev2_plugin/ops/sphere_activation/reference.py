"""The activations as the equations have them: to the grid, point-wise, and back.

Source: paper, section 4.2 (separable S2 activation) and appendix A.4; official code (activation.py and
transformer_block.py, FeedForwardNetwork).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def silu_on_sphere(
    x: Float[Tensor, "rows coefficients channels"],
    to_grid: Float[Tensor, "points coefficients"],
    from_grid: Float[Tensor, "out_coefficients points"],
) -> Float[Tensor, "rows out_coefficients channels"]:
    """SiLU at every point of the grid.

    Args:
        x: Coefficients of nodes or edges.
        to_grid: Values of the basis at the points.
        from_grid: Quadrature back to the coefficients wanted.

    Returns:
        Coefficients of the activated signal.
    """
    return from_grid @ F.silu(to_grid @ x)


def mlp_on_sphere(
    x: Float[Tensor, "rows coefficients channels"],
    weight: Float[Tensor, "channels channels"],
    to_grid: Float[Tensor, "points coefficients"],
    from_grid: Float[Tensor, "out_coefficients points"],
) -> Float[Tensor, "rows out_coefficients channels"]:
    """SiLU, a bias-free linear map of the channels and SiLU again at every point of the grid.

    The MLP's first and last linear maps act on channels only, so they commute with the transforms, which act on
    coefficients only: the caller applies them to the few coefficients instead of the many points.

    Args:
        x: Coefficients, the first linear map applied.
        weight: The middle linear map.
        to_grid: Values of the basis at the points.
        from_grid: Quadrature back to the coefficients wanted.

    Returns:
        Coefficients, the last linear map still to be applied.
    """
    return from_grid @ F.silu(F.linear(F.silu(to_grid @ x), weight))
