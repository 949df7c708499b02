"""What the layers need to be told, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ev2_plugin.ops.backend import Backend, Operations, operations
from ev2_plugin.ops.linear import Precision
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid

Activation = Literal["gate", "s2", "separable_s2"]
NormType = Literal["layer_norm", "layer_norm_sh", "rms_norm_sh"]


@dataclass(frozen=True, kw_only=True)
class EdgeScalarSpec:
    """Invariant inputs of the radial functions.

    Attributes:
        num_inputs: Distance basis functions, plus shared element embeddings if there are any.
        channels: Hidden width of the radial functions and of the element embeddings.
        num_elements: Rows of an element table.
        element_tables: Every layer has its own sender and receiver element tables.
    """

    num_inputs: int
    channels: int
    num_elements: int
    element_tables: bool


@dataclass(frozen=True, kw_only=True)
class SphereSpec:
    """Degrees, grid and arithmetic shared by all layers."""

    layout: CoefficientLayout
    grid_resolution: int | None
    backend: Backend
    precision: Precision

    @property
    def ops(self) -> Operations:
        """The operations that backend and precision stand for."""
        return operations(self.backend, self.precision)

    @property
    def edge_grid(self) -> SphereGrid:
        """Grid of edge features: order-major, |m| <= mmax."""
        return SphereGrid(self.layout, self.grid_resolution, order_major=True)

    @property
    def node_grid(self) -> SphereGrid:
        """Grid of node features: degree-major, all orders."""
        full = CoefficientLayout(self.layout.lmax, self.layout.lmax)
        return SphereGrid(full, self.grid_resolution, order_major=False)


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Widths and switches of graph attention (paper, Table 7 names in brackets).

    Attributes:
        channels: Channels of the node features (d_embed).
        hidden_channels: Channels between the SO(2) convolutions (d_attn_hidden).
        num_heads: Heads (h).
        alpha_channels: Scalars per head for the attention weight (d_attn_alpha).
        value_channels: Value channels per head (d_attn_value).
        activation: Non-linearity between the SO(2) convolutions.
        renormalize: Layer norm before the attention weight's non-linearity.
        share_radial_orders: One radial weight per degree instead of one per degree and |m|.
        dropout: Probability of dropping an attention weight.
        recompute: Keep no edge tensors for the backward pass: compute them again there.
    """

    channels: int
    hidden_channels: int
    num_heads: int
    alpha_channels: int
    value_channels: int
    activation: Activation
    renormalize: bool
    share_radial_orders: bool
    dropout: float
    recompute: bool


@dataclass(frozen=True, kw_only=True)
class FeedForwardSpec:
    """Widths of the feed-forward network.

    Attributes:
        channels: Channels of the node features (d_embed).
        hidden_channels: Hidden channels (d_ffn).
        activation: Non-linearity between the linear maps; with the grid MLP, whether that is separable.
        grid_mlp: Three point-wise linear maps on the sphere grid instead of one activation.
    """

    channels: int
    hidden_channels: int
    activation: Activation
    grid_mlp: bool
