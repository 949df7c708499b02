"""Energy and forces from node features."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ev2_plugin.model.backbone import NodeEmbedding
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.state_dict import accept_official_keys
from ev2_plugin.nn.feed_forward import FeedForward
from ev2_plugin.nn.graph_attention import GraphAttention
from ev2_plugin.nn.initialization import initialize
from ev2_plugin.ops.autocast import in_precision
from ev2_plugin.ops.receiver_sum import sum_rows

Reduce = Literal["sum", "mean"]


def energy_block(config: ModelConfig) -> FeedForward:
    """The network that gives each atom's part of the energy."""
    return FeedForward(config.feed_forward, config.sphere, out_channels=1)


def force_block(config: ModelConfig) -> GraphAttention:
    """The attention layer that gives each atom's force.

    Raises:
        ValueError: If the features have no degree 1 to read forces from.
    """
    if config.lmax < 1:
        raise ValueError(f"forces are coefficients of degree 1: they need lmax >= 1, got lmax={config.lmax}")
    return GraphAttention(config.attention(dropout=0.0), config.sphere, config.edge_scalars, out_channels=1)


def sum_over_structures(values: Float[Tensor, "atoms ..."], natoms: Tensor) -> Float[Tensor, "structures ..."]:
    """Sums of consecutive atoms."""
    structures = torch.arange(len(natoms), device=natoms.device)
    owners = torch.repeat_interleave(structures, natoms, output_size=len(values))
    return sum_rows(values, F.pad(natoms.cumsum(0), (1, 0)), owners)


def predict_energy(
    block: FeedForward, embedding: NodeEmbedding, reduce: Reduce, config: ModelConfig
) -> Float[Tensor, " structures"]:
    """Normalised energy of every structure.

    Args:
        block: From `energy_block`.
        embedding: From the backbone.
        reduce: `sum` over atoms, divided by `avg_num_nodes`, or `mean` over atoms.
        config: The backbone's hyper-parameters.
    """
    natoms, share = embedding.atoms.natoms, embedding.atoms.share
    with in_precision(config.precision, embedding.nodes):
        per_atom = block.scalars(embedding.nodes).squeeze(-1)
    # half precision (autocast) ends here: it could not hold the sum
    per_atom = per_atom.to(torch.promote_types(per_atom.dtype, torch.float32))
    total = share.sum(sum_over_structures(per_atom, share.own_counts(natoms)))
    return total / config.avg_num_nodes if reduce == "sum" else total / natoms


def predict_forces(block: GraphAttention, embedding: NodeEmbedding, config: ModelConfig) -> Float[Tensor, "atoms 3"]:
    """Normalised force on every atom, directly predicted (not a gradient).

    Args:
        block: From `force_block`.
        embedding: From the backbone.
        config: The backbone's hyper-parameters.
    """
    with in_precision(config.precision, embedding.nodes):
        forces = block.vectors(embedding.nodes, embedding.edges).squeeze(-1)
    return embedding.atoms.share.gather(forces.to(torch.promote_types(forces.dtype, torch.float32)))


class EnergyHead(nn.Module):
    """An energy per structure.

    Args:
        config: The backbone's hyper-parameters.
        reduce: `sum` (extensive up to a constant factor) or `mean` over atoms.

    Raises:
        ValueError: If `reduce` is neither.
    """

    def __init__(self, config: ModelConfig, reduce: Reduce = "sum") -> None:
        super().__init__()
        if reduce not in get_args(Reduce):
            raise ValueError(f"reduce must be 'sum' or 'mean', got {reduce!r}")
        self.reduce, self.config = reduce, config
        self.energy_block = energy_block(config)
        initialize(self, config.weight_init)
        accept_official_keys(self)

    def predict(self, embedding: NodeEmbedding) -> Float[Tensor, " structures"]:
        """Normalised energies."""
        return predict_energy(self.energy_block, embedding, self.reduce, self.config)


class ForceHead(nn.Module):
    """A force per atom.

    Args:
        config: The backbone's hyper-parameters.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.force_block = force_block(config)
        initialize(self, config.weight_init)
        accept_official_keys(self)

    def predict(self, embedding: NodeEmbedding) -> Float[Tensor, "atoms 3"]:
        """Normalised forces."""
        return predict_forces(self.force_block, embedding, self.config)
