"""The feed-forward network of a block, and the energy head's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.nn.activation import SphereActivation, num_gates
from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.nn.specs import FeedForwardSpec, SphereSpec
from ev2_plugin.nn.zero_gradient import with_zero_gradient


class FeedForward(nn.Module):
    """Linear, activation or grid MLP, linear.

    Args:
        spec: Widths.
        sphere: Degrees, grid, backend.
        out_channels: Channels of the result.

    Source: paper, section 4.2 and figure 1(d).
    """

    def __init__(self, spec: FeedForwardSpec, sphere: SphereSpec, out_channels: int) -> None:
        super().__init__()
        lmax, hidden = sphere.layout.lmax, spec.hidden_channels
        self.num_gates = 0 if spec.grid_mlp else num_gates(spec.activation, lmax, hidden)
        self.spec, self.separable = spec, spec.activation == "separable_s2"
        self.ops, self.grid = sphere.ops, sphere.node_grid
        self.so3_linear_1 = EquivariantLinear(spec.channels, hidden, lmax, self.ops)
        if spec.grid_mlp:
            if self.separable:
                self.scalar_mlp = nn.Sequential(nn.Linear(spec.channels, hidden), nn.SiLU())
            self.grid_mlp = nn.Sequential(
                nn.Linear(hidden, hidden, bias=False), nn.SiLU(),
                nn.Linear(hidden, hidden, bias=False), nn.SiLU(),
                nn.Linear(hidden, hidden, bias=False),
            )  # fmt: skip
        else:
            if self.num_gates:
                self.gating_linear = nn.Linear(spec.channels, self.num_gates)
            self.activation = SphereActivation(spec.activation, self.grid, self.ops)
        self.so3_linear_2 = EquivariantLinear(hidden, out_channels, lmax, self.ops)

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients out"]:
        """Transform node features, degree-major."""
        return self.so3_linear_2(self._hidden(x))

    def scalars(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes out"]:
        """Degree 0 of `forward` without computing what it does not depend on."""
        idle: list[nn.Module] = []
        if self.separable:
            hidden = self._separate_scalars(x[:, 0])
            idle = [self.so3_linear_1, self.grid_mlp] if self.spec.grid_mlp else [self.so3_linear_1]
        elif self.spec.activation == "gate":
            hidden = self.ops.silu(self.so3_linear_1.scalars(x[:, 0]))
            idle = [self.gating_linear] if self.num_gates else []
        else:
            hidden = self._hidden(x)[:, 0]
        out = self.so3_linear_2.scalars(hidden)
        return with_zero_gradient(out, *(p for module in idle for p in module.parameters()))

    def _hidden(self, x: Tensor) -> Tensor:
        hidden = self.so3_linear_1(x)
        if self.spec.grid_mlp:
            return self._on_grid(x, hidden)
        gates = self._linear(self.gating_linear, x[:, 0]) if self.num_gates else x[:, 0, :0]
        return self.activation(hidden, gates)

    def _on_grid(self, x: Tensor, hidden: Tensor) -> Tensor:
        first, _, middle, _, last = self.grid_mlp
        to_grid, from_grid = self.grid.matrices(hidden.dtype, hidden.device)
        if self.separable:
            from_grid = from_grid[1:]
        hidden = self._linear(first, hidden)
        hidden = self.ops.mlp_on_sphere(hidden, middle.weight.to(hidden.dtype), to_grid, from_grid)
        hidden = self._linear(last, hidden)
        if not self.separable:
            return hidden
        return torch.cat((self._separate_scalars(x[:, :1]).to(hidden.dtype), hidden), dim=1)

    def _separate_scalars(self, x: Tensor) -> Tensor:
        """Degree 0 after a separable non-linearity: SiLU of a linear map of the input's degree 0."""
        linear = self.scalar_mlp[0] if self.spec.grid_mlp else self.gating_linear
        return self.ops.silu(self._linear(linear, x))

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return self.ops.linear(x, layer.weight, layer.bias)
