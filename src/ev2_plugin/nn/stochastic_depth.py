"""Regularisation of the residual branches."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ev2_plugin.nn.atom_share import ALL_ATOMS, AtomShare


class GraphStochasticDepth(nn.Module):
    """Drops a residual branch for whole structures while training; what is kept is scaled up.

    Args:
        rate: Probability of dropping, in [0, 1).

    Source: paper, appendix D (stochastic depth); official code draws per graph, at one rate in all blocks.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self,
        x: Float[Tensor, "nodes coefficients channels"],
        batch: Int[Tensor, " nodes"],
        num_graphs: int,
        share: AtomShare = ALL_ATOMS,
    ) -> Float[Tensor, "nodes coefficients channels"]:
        """Drop or keep each structure's features."""
        if not self.training or self.rate == 0:
            return x
        drawn = share.agree(torch.rand(num_graphs, 1, 1, dtype=x.dtype, device=x.device))
        kept = drawn >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)[batch]

    def extra_repr(self) -> str:
        """The rate, for printing."""
        return f"rate={self.rate}"


class EquivariantDropout(nn.Module):
    """Dropout of whole channels of a node, all coefficients together."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "nodes coefficients channels"]) -> Float[Tensor, "nodes coefficients channels"]:
        """Drop or keep each node's channels."""
        if not self.training or self.rate == 0:
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[-1]), self.rate)

    def extra_repr(self) -> str:
        """The rate, for printing."""
        return f"rate={self.rate}"
