"""SO(2) convolution: the parameters of the linear map that commutes with turns about the edge."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.radial import RadialFunction
from ev2_plugin.ops.backend import Operations
from ev2_plugin.ops.edge_convolution import RadialWeights
from ev2_plugin.ops.so2_linear import SO2Weights
from ev2_plugin.so3.layout import CoefficientLayout


class OrderPair(nn.Module):
    """Weights of orders +m and -m: real part above imaginary part."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, 2 * out_features, bias=False)
        # two products are added for each output, so each has half the variance
        self.fc.weight.data.mul_(1 / math.sqrt(2))


class SO2Parameters(nn.Module):
    """Parameters of an SO(2) linear map.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        layout: Degrees and orders.
        ops: Operations to use.
        num_scalars: Extra invariant outputs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, layout: CoefficientLayout, ops: Operations, num_scalars: int = 0
    ) -> None:
        super().__init__()
        self.layout, self.ops, self.num_scalars = layout, ops, num_scalars
        degrees = layout.order_sizes[0]
        self.fc_m0 = nn.Linear(degrees * in_channels, num_scalars + degrees * out_channels)
        self.so2_m_conv = nn.ModuleList(
            OrderPair(size * in_channels, size * out_channels) for size in layout.order_sizes[1:]
        )

    @property
    def weights(self) -> SO2Weights:
        """The parameters as the operations take them."""
        pairs = tuple(pair.fc.weight for pair in self.so2_m_conv)
        return SO2Weights(self.fc_m0.weight, self.fc_m0.bias, pairs, self.num_scalars)


class SO2Convolution(SO2Parameters):
    """Convolution of edge features in their edge frames.

    Source: paper, section 3; eSCN, arXiv:2302.03655.
    """

    def forward(
        self, x: Float[Tensor, "edges kept channels"]
    ) -> tuple[Float[Tensor, "edges kept out"], Float[Tensor, "edges scalars"]]:
        """Convolved features and extra scalars."""
        return self.ops.so2_linear(x, self.weights, self.layout)


class MessageConvolution(SO2Parameters):
    """Convolution of messages: of both ends of every edge, in its edge frame, times radial weights.

    Args:
        channels: Channels of the node features; a message has twice as many.
        out_channels: Output channels.
        layout: Degrees and orders.
        ops: Operations to use.
        num_scalars: Extra invariant outputs.
        radial: The radial function, whose weights the caller hands in; it stands here because the official
            checkpoints have it here. None if it stands elsewhere.

    Source: paper, section 3 and figure 1(b).
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        layout: CoefficientLayout,
        ops: Operations,
        num_scalars: int,
        radial: RadialFunction | None,
    ) -> None:
        super().__init__(2 * channels, out_channels, layout, ops, num_scalars)
        self.rad_func = radial

    def forward(
        self, x: Float[Tensor, "nodes coefficients channels"], radial: RadialWeights, edges: EdgeContext
    ) -> tuple[Float[Tensor, "edges kept out"], Float[Tensor, "edges scalars"]]:
        """Convolved messages and extra scalars."""
        return self.ops.convolved_messages(x, radial, self.weights, edges.graph, edges.frames)
