"""A symmetric rank-2 tensor per structure: stress, as in the OMat24 models.

The official head reads, for every edge, the receiver's features along the edge direction, weights a tensor of that
direction with them, and averages over edges and atoms. Its MLPs act on tensor components with biases and SiLU, so
the anisotropic part is not strictly equivariant; it is kept as it is for the sake of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.model.backbone import NodeEmbedding
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.config import ModelConfig, check_kinds
from ev2_plugin.model.heads import sum_over_structures
from ev2_plugin.model.state_dict import accept_official_keys
from ev2_plugin.nn.initialization import initialize
from ev2_plugin.nn.norm import make_norm
from ev2_plugin.ops.receiver_sum import sum_at_receivers
from ev2_plugin.so3.tables import float_table, index_table


@dataclass(frozen=True, kw_only=True)
class StressSpec:
    """Switches of the stress head.

    Attributes:
        decompose: Predict the isotropic (degree 0) and anisotropic (degree 2) parts apart, as OMat24 does.
        edge_level_mlp: Apply the MLPs to edges before averaging instead of to atoms after it.
        num_mlp_layers: Linear maps per MLP.
        use_source_target_embedding: Read the sender's features as well as the receiver's.
        extensive: Sum over atoms, divided by `avg_num_nodes`, instead of their mean.
        avg_num_nodes: Used with `extensive` and `decompose`.

    Raises:
        ValueError: If a value is of another kind or out of range.
    """

    decompose: bool = False
    edge_level_mlp: bool = False
    num_mlp_layers: int = 2
    use_source_target_embedding: bool = False
    extensive: bool = False
    avg_num_nodes: float = 1.0

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.num_mlp_layers < 1:
            raise ValueError(f"num_mlp_layers must be at least 1, got {self.num_mlp_layers}")
        if not self.avg_num_nodes > 0:
            raise ValueError(f"avg_num_nodes must be a positive number, got {self.avg_num_nodes}")


class StressHead(nn.Module):
    """Stress, whole or in its two irreducible parts.

    Args:
        config: The backbone's hyper-parameters.
        spec: Switches.

    Raises:
        ValueError: If a decomposed stress is asked of features without degree 2.

    Source: fairchem 1.10, equiformer_v2/heads/rank2.py; OMat24, arXiv:2410.12771.
    """

    def __init__(self, config: ModelConfig, spec: StressSpec) -> None:
        super().__init__()
        if spec.decompose and config.lmax < 2:
            raise ValueError(f"an anisotropic stress has degree 2: it needs lmax >= 2, got lmax={config.lmax}")
        self.spec, self.layout = spec, config.layout
        channels = config.sphere_channels * (2 if spec.use_source_target_embedding else 1)
        self.sphharm_norm = make_norm(config.norm_type, config.lmax, 1)
        self.xedge_layer_norm = nn.LayerNorm(channels)
        self.block = TensorBlock(channels, spec)
        initialize(self.block, "uniform")
        accept_official_keys(self)

    def predict(self, embedding: NodeEmbedding) -> Float[Tensor, "rows columns"] | tuple[Tensor, Tensor]:
        """Normalised stress.

        Returns:
            Decomposed: isotropic [structures, 1] and anisotropic [structures, 5]; else [3 structures, 3].
        """
        graph, frames, share = embedding.edges.graph, embedding.edges.frames, embedding.atoms.share
        sums, nodes = embedding.edges.whole.sums, share.gather(embedding.nodes)
        solid = solid_harmonics(frames.directions, graph.distances, self.layout.degrees)
        weights = self.sphharm_norm(solid.unsqueeze(-1))  # [E, coefficients, 1]
        ends = [graph.senders, graph.receivers] if self.spec.use_source_target_embedding else [graph.receivers]
        along_edge = torch.cat([(nodes[end] * weights).sum(dim=1) for end in ends], dim=-1)
        edge_features = self.xedge_layer_norm(along_edge)
        if not self.spec.decompose:
            outer = (graph.vectors.unsqueeze(2) * graph.vectors.unsqueeze(1)).flatten(1)  # [E, 9]
            tensor = self.block.average(edge_features, outer, self.block.r2tensor_MLP, sums)
            return self._pool(tensor, embedding.atoms).reshape(-1, 3)
        monopole = torch.ones_like(graph.distances).unsqueeze(-1)
        quadrupole = frames.directions[:, 4:9] * math.sqrt(5 / (4 * math.pi))
        isotropic = self.block.average(edge_features, monopole, self.block.scalar_MLP, sums)
        anisotropic = self.block.average(edge_features, quadrupole, self.block.irrep2_MLP, sums)
        scale = self.spec.avg_num_nodes if self.spec.extensive else 1.0
        return self._pool(isotropic, embedding.atoms) / scale, self._pool(anisotropic, embedding.atoms) / scale

    def _pool(self, tensor: Tensor, atoms: AtomBatch) -> Tensor:
        total = atoms.share.sum(sum_over_structures(tensor, atoms.share.own_counts(atoms.natoms)))
        return total if self.spec.extensive else total / atoms.natoms.unsqueeze(-1)


class TensorBlock(nn.Module):
    """The MLPs of the stress head."""

    def __init__(self, channels: int, spec: StressSpec) -> None:
        super().__init__()
        self.edge_level = spec.edge_level_mlp
        for name in ("scalar_MLP", "irrep2_MLP") if spec.decompose else ("r2tensor_MLP",):
            layers: list[nn.Module] = []
            for _ in range(spec.num_mlp_layers - 1):
                layers += [nn.Linear(channels, channels), nn.SiLU()]
            self.add_module(name, nn.Sequential(*layers, nn.Linear(channels, 1)))

    def average(
        self,
        features: Float[Tensor, "edges channels"],
        components: Float[Tensor, "edges components"],
        mlp: nn.Module,
        graph: EdgeGraph,
    ) -> Float[Tensor, "nodes components"]:
        """Mean over each atom's edges of features times components, channels brought to one by the MLP."""
        edges = components.unsqueeze(2) * features.unsqueeze(1)  # [E, components, C]
        if self.edge_level:
            return _mean_over_edges(mlp(edges), graph).squeeze(-1)
        return mlp(_mean_over_edges(edges, graph)).squeeze(-1)


def solid_harmonics(
    directions: Float[Tensor, "edges coefficients"],
    distances: Float[Tensor, " edges"],
    degrees: tuple[int, ...],
) -> Float[Tensor, "edges coefficients"]:
    """Orthonormal spherical harmonics times distance to the power of their degree.

    Args:
        directions: `EdgeFrames.directions`.
        distances: Edge lengths in Å.
        degrees: Degree of each coefficient.
    """
    norms = tuple(math.sqrt((2 * l + 1) / (4 * math.pi)) for l in degrees)
    powers = distances.unsqueeze(-1) ** index_table(degrees, distances.device)
    return directions * float_table(norms, directions.dtype, directions.device) * powers


def _mean_over_edges(values: Tensor, graph: EdgeGraph) -> Tensor:
    count = graph.row_pointers.diff().clamp(min=1)
    return sum_at_receivers(values, graph) / count.view(-1, *[1] * (values.dim() - 1))
