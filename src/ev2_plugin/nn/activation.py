"""Non-linearities of features of several degrees: gate, S2 and separable S2 activation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.nn.specs import Activation
from ev2_plugin.ops.backend import Operations
from ev2_plugin.so3.sphere_grid import SphereGrid
from ev2_plugin.so3.tables import index_table


def num_gates(activation: Activation, lmax: int, channels: int) -> int:
    """Scalars an activation needs besides the features."""
    return {"gate": lmax * channels, "s2": 0, "separable_s2": channels}[activation]


class SphereActivation(nn.Module):
    """One of the three activations, for nodes or edges as the grid says.

    * gate: degree 0 by SiLU, higher degrees times the sigmoid of one gate per degree and channel.
    * s2: SiLU at every point of the sphere grid.
    * separable_s2: degree 0 becomes SiLU of the gates, higher degrees come from the sphere grid.

    Args:
        activation: Which one.
        grid: Coefficients and resolution.
        ops: Operations to use.

    Source: paper, section 4.2 and figure 2.
    """

    def __init__(self, activation: Activation, grid: SphereGrid, ops: Operations) -> None:
        super().__init__()
        self.activation, self.grid, self.ops = activation, grid, ops
        layout = grid.layout
        degrees = layout.kept_degrees if grid.order_major else layout.degrees
        self.gate_of_row = tuple(l - 1 for l in degrees[1:])

    def forward(
        self, x: Float[Tensor, "rows coefficients channels"], gates: Float[Tensor, "rows gates"]
    ) -> Float[Tensor, "rows coefficients channels"]:
        """Activate `x`, whose row 0 is degree 0 in either layout."""
        if self.activation == "gate":
            per_degree = gates.sigmoid().unflatten(1, (-1, x.shape[-1]))
            gate = per_degree[:, index_table(self.gate_of_row, x.device)]
            return torch.cat((self.ops.silu(x[:, :1]), x[:, 1:] * gate), dim=1)
        to_grid, from_grid = self.grid.matrices(x.dtype, x.device)
        if self.activation == "s2":
            return self.ops.silu_on_sphere(x, to_grid, from_grid)
        higher = self.ops.silu_on_sphere(x, to_grid, from_grid[1:])
        return torch.cat((self.ops.silu(gates).unsqueeze(1), higher), dim=1)

    def extra_repr(self) -> str:
        """Which activation, for printing."""
        return f"{self.activation}, grid={'x'.join(map(str, self.grid.shape))}"
