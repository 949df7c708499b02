"""The backbone: structures in, node features out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.state_dict import accept_official_keys
from ev2_plugin.nn.activation import num_gates
from ev2_plugin.nn.block import TransformerBlock
from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.nn.edge_embedding import EdgeDegreeEmbedding
from ev2_plugin.nn.initialization import initialize
from ev2_plugin.nn.norm import make_norm
from ev2_plugin.nn.radial import GaussianBasis, LearnableGaussianBasis
from ev2_plugin.ops.autocast import in_precision
from ev2_plugin.ops.backend import announce
from ev2_plugin.so3.edge_frame import edge_frames


@dataclass(frozen=True)
class NodeEmbedding:
    """What the heads read.

    Attributes:
        nodes: Normalised features of own atoms, degree-major, [own, coefficients, channels].
        edges: Edges, frames and edge scalars.
        atoms: The structures.
    """

    nodes: Tensor
    edges: EdgeContext
    atoms: AtomBatch


class Backbone(nn.Module):
    """Embedding, Transformer blocks, final norm.

    Args:
        config: Hyper-parameters.

    Source: paper, figure 1(a). Parameter names and their order are those of the official code.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels, spec = config.sphere_channels, config.edge_scalars
        self.sphere_embedding = nn.Embedding(config.max_num_elements, channels)
        basis = GaussianBasis if config.distance_function == "gaussian" else LearnableGaussianBasis
        self.distance_expansion = basis(config.num_radial_basis, config.max_radius)
        if config.share_atom_edge_embedding:
            self.source_embedding = nn.Embedding(config.max_num_elements, config.edge_channels)
            self.target_embedding = nn.Embedding(config.max_num_elements, config.edge_channels)
        self.edge_degree_embedding = EdgeDegreeEmbedding(
            channels, config.lmax, config.avg_degree, spec, config.sphere.ops
        )
        self.blocks = nn.ModuleList(TransformerBlock(config.block) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm_type, config.lmax, channels)
        initialize(self, config.weight_init)
        accept_official_keys(self)

    def embed(self, atoms: AtomBatch, gauge: Float[Tensor, " edges"] | None = None) -> NodeEmbedding:
        """Features of every atom.

        Args:
            atoms: Structures with their edges.
            gauge: Turn of each edge frame about its edge in radians; 0 if None.

        Returns:
            Node features and what the heads need besides.
        """
        if not torch.compiler.is_compiling():
            announce(self.config.backend, self.sphere_embedding.weight)
        with in_precision(self.config.precision, self.sphere_embedding.weight):
            return self._embed(atoms, gauge)

    def _embed(self, atoms: AtomBatch, gauge: Tensor | None) -> NodeEmbedding:
        edges = self._edge_context(atoms, gauge)
        scalars = self.sphere_embedding(atoms.share.own(atoms.atomic_numbers)).unsqueeze(1)
        neighbourhood = self.edge_degree_embedding(edges)
        x = torch.cat((neighbourhood[:, :1] + scalars, neighbourhood[:, 1:]), dim=1)
        batch = atoms.batch
        for block in self.blocks:
            if self.config.activation_checkpoint == "block" and torch.is_grad_enabled():
                x = checkpoint(block, x, edges, batch, atoms.num_graphs, use_reentrant=False)
            else:
                x = block(x, edges, batch, atoms.num_graphs)
        return NodeEmbedding(self.norm(x), edges, atoms)

    def _edge_context(self, atoms: AtomBatch, gauge: Tensor | None) -> EdgeContext:
        graph = atoms.graph
        sender_elements = atoms.atomic_numbers[graph.senders]
        receiver_elements = atoms.atomic_numbers[graph.receivers]
        scalars = self.distance_expansion(graph.distances)
        if self.config.share_atom_edge_embedding:
            tables = self.source_embedding(sender_elements), self.target_embedding(receiver_elements)
            scalars = torch.cat((scalars, *tables), dim=1)
        frames = edge_frames(graph.vectors, self.config.layout, gauge)
        max_edges = self.edges_within_memory(scalars.dtype)
        return EdgeContext(graph, frames, scalars, sender_elements, receiver_elements, max_edges, atoms.share)

    def edges_within_memory(self, dtype: torch.dtype) -> int:
        """Edges whose features, between two rotations, fit `edge_memory_mb`."""
        attention, layout = self.config.attention(0.0), self.config.layout
        scalars = attention.num_heads * attention.alpha_channels + num_gates(
            attention.activation, layout.lmax, attention.hidden_channels
        )
        convolved = 2 * layout.num_kept * attention.hidden_channels + scalars
        values = layout.num_kept * attention.num_heads * attention.value_channels
        per_edge = (4 * self.config.edge_channels + convolved + values) * dtype.itemsize
        return max(1, self.config.edge_memory_mb * 10**6 // per_edge)
