"""Edge vectors -> edge frames: the rotations that take each edge direction to the polar axis +y.

The angle left free, the *gauge*, is 0 unless the caller passes one. SO(2) linear maps commute with it; the
activation on the sphere grid does so up to the grid's error only, which is why a fixed gauge makes the model
repeatable. Frames carry no gradient (as in the official code): forces come from the direct head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.tables import float_table, index_table
from ev2_plugin.so3.wigner import multiples, tilt, turn_columns


@dataclass(frozen=True)
class EdgeFrames:
    """Wigner matrices of the edge frames, made once per forward pass and shared by all layers.

    Attributes:
        layout: Which orders the edge features keep.
        into: Lab -> edge frame, degree-major columns, order-major rows, [edges, kept, coefficients].
        back: Edge frame -> lab: the transpose of `into`, times `layout.truncation_scale`,
            [edges, coefficients, kept].
    """

    layout: CoefficientLayout
    into: Tensor
    back: Tensor

    @property
    def directions(self) -> Tensor:
        """Spherical harmonics of the edge directions times sqrt(4 pi / (2l+1)), [edges, coefficients].

        They are the m = 0 rows of the rotation: what points along the polar axis comes from the edge.
        """
        return self.into[:, : self.layout.lmax + 1].sum(dim=1)


@torch.no_grad()
def edge_frames(
    vectors: Float[Tensor, "edges 3"],
    layout: CoefficientLayout,
    gauge: Float[Tensor, " edges"] | None = None,
) -> EdgeFrames:
    """Frames of non-zero edge vectors.

    Args:
        vectors: Edge vectors from receiver to sender in Å.
        layout: Degrees of the features and orders to keep.
        gauge: Angle of a further turn about the edge in radians; 0 if None.

    Returns:
        Frames in the dtype and on the device of `vectors`.

    Source: paper, section 3 (eSCN convolution); eSCN, arXiv:2302.03655, section 3. At the poles, where the azimuth
    is undefined, it is taken to be 0.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1)
    x, y, z = (vectors / length.unsqueeze(-1)).unbind(-1)
    # the ratio first: next to the poles x and z may be denormal, with few digits of their hypotenuse left
    larger = torch.maximum(x.abs(), z.abs())
    at_pole = larger == 0
    safe = torch.where(at_pole, 1, larger)
    cos_alpha, sin_alpha = torch.where(at_pole, 1, z / safe), torch.where(at_pole, 0, x / safe)
    norm = torch.hypot(cos_alpha, sin_alpha)
    cos_alpha, sin_alpha = cos_alpha / norm, sin_alpha / norm

    with torch.autocast(vectors.device.type, enabled=False):  # half precision would bend every rotation
        into = tilt(y, torch.hypot(x, z), layout)
    into = turn_columns(into, *multiples(cos_alpha, sin_alpha, layout.lmax), layout.orders)
    if gauge is not None:
        into = _turn_rows(into, gauge, layout)
    scale = tuple(layout.truncation_scale[l] for l in layout.kept_degrees)
    back = (into * float_table(scale, into.dtype, into.device).unsqueeze(-1)).mT
    return EdgeFrames(layout, into, back)


def _turn_rows(matrix: Tensor, gauge: Tensor, layout: CoefficientLayout) -> Tensor:
    """The turn by `gauge` about +y, applied to order-major rows."""
    orders = tuple(layout.orders[i] for i in layout.kept)
    row_of = {index: row for row, index in enumerate(layout.kept)}
    mirrored = tuple(row_of[index - 2 * m] for index, m in zip(layout.kept, orders, strict=True))
    order = index_table(orders, matrix.device)
    angle = gauge.unsqueeze(-1) * order
    return matrix * angle.cos().unsqueeze(-1) - matrix[:, index_table(mirrored, matrix.device)] * angle.sin().unsqueeze(
        -1
    )
