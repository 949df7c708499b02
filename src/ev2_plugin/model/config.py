"""The hyper-parameters of EquiformerV2."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ev2_plugin.graph.neighbors import NeighborRule
from ev2_plugin.nn.block import BlockSpec
from ev2_plugin.nn.initialization import WeightInit
from ev2_plugin.nn.specs import (
    Activation,
    AttentionSpec,
    EdgeScalarSpec,
    FeedForwardSpec,
    NormType,
    SphereSpec,
)
from ev2_plugin.ops.backend import Backend
from ev2_plugin.ops.linear import Precision
from ev2_plugin.so3.layout import CoefficientLayout

KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("an integer", (int,)),
    "int | None": ("an integer or null", (int, type(None))),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
}
"""What a YAML file must hold for a field of each annotation; YAML reads 1e-3 as text, for one."""


def check_kinds(settings: Any) -> None:
    """Compare the fields of a dataclass with their annotations.

    Raises:
        ValueError: Naming the first field of another kind.
    """
    for field in fields(settings):
        words, types = KINDS.get(str(field.type), ("", (object,)))
        value = getattr(settings, field.name)
        if not isinstance(value, types) or (isinstance(value, bool) and field.type != "bool"):
            raise ValueError(f"{field.name} must be {words}, got {value!r}")


DistanceFunction = Literal["gaussian", "learnable_gaussian"]
ActivationCheckpoint = Literal["none", "edges", "block"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the model's function and parameters. Names are the official files'.

    The defaults of the official code are not the paper's (paper Table 7); `ev2_plugin.model.presets` has those.

    Attributes:
        avg_num_nodes: Mean number of atoms per structure in the training data; a summed energy is divided by it.
        avg_degree: Mean number of neighbours in the training data; the edge-degree embedding is divided by it.
        lmax: Largest degree.
        mmax: Largest order kept in edge convolutions.
        num_layers: Transformer blocks.
        sphere_channels: Channels per coefficient of node features (d_embed).
        attn_hidden_channels: Channels inside attention (d_attn_hidden).
        num_heads: Attention heads.
        attn_alpha_channels: Scalars per head for attention weights (d_attn_alpha).
        attn_value_channels: Value channels per head (d_attn_value).
        ffn_hidden_channels: Channels inside the feed-forward network (d_ffn).
        norm_type: `layer_norm_sh` (the paper's separable layer norm), `layer_norm` (per degree) or `rms_norm_sh`.
        grid_resolution: Latitudes and longitudes of the sphere grid, even; None for the smallest grid.
        edge_channels: Hidden width of the radial functions.
        max_num_elements: Rows of the element tables, indexed by atomic number: one more than the largest.
        use_atom_edge_embedding: Elements of both ends enter the radial functions.
        share_atom_edge_embedding: One pair of element tables for all layers instead of one pair each.
        use_m_share_rad: One radial weight per degree instead of one per degree and order.
        distance_function: `gaussian` (fixed) or `learnable_gaussian` (Equiformer v1; IS2RE and QM9).
        num_radial_basis: Distance basis functions.
        max_radius: Cutoff in Å.
        max_neighbors: Nearest neighbours kept per atom.
        enforce_max_neighbors_strictly: Exactly that many; otherwise ties are kept.
        use_attn_renorm: Layer norm inside the attention weights.
        use_gate_act: Gate activation instead of S2 activation.
        use_sep_s2_act: Separable S2 activation and separable grid MLP.
        use_grid_mlp: MLP on the sphere grid in the feed-forward networks.
        alpha_drop: Dropout of attention weights.
        drop_path_rate: Stochastic depth, per structure.
        proj_drop: Dropout of the branches' results.
        weight_init: `uniform` or `normal`.
        activation_checkpoint: What is computed again in the backward pass instead of being kept: `none`, `edges` (the
            edge tensors of each attention layer) or `block` (each Transformer block).
        edge_memory_mb: Memory for the edge features of an attention layer where none are kept for a backward pass; in
            megabytes. More edges than fit are taken a part at a time.
        backend: Which form of the operations runs: `auto`, `reference` (plain), `pytorch` or `triton` (NVIDIA GPUs).
        precision: Arithmetic of the matrix products: `highest` (fp32), `high` (tensor cores, fp32's accuracy), `tf32`
            or `bf16`.

    Raises:
        ValueError: If a value is out of range or two contradict each other.
    """

    avg_num_nodes: float
    avg_degree: float
    lmax: int = 6
    mmax: int = 2
    num_layers: int = 12
    sphere_channels: int = 128
    attn_hidden_channels: int = 128
    num_heads: int = 8
    attn_alpha_channels: int = 32
    attn_value_channels: int = 16
    ffn_hidden_channels: int = 512
    norm_type: NormType = "rms_norm_sh"
    grid_resolution: int | None = None
    edge_channels: int = 128
    max_num_elements: int = 90
    use_atom_edge_embedding: bool = True
    share_atom_edge_embedding: bool = False
    use_m_share_rad: bool = False
    distance_function: DistanceFunction = "gaussian"
    num_radial_basis: int = 600
    max_radius: float = 5.0
    max_neighbors: int = 500
    enforce_max_neighbors_strictly: bool = True
    use_attn_renorm: bool = True
    use_gate_act: bool = False
    use_sep_s2_act: bool = True
    use_grid_mlp: bool = False
    alpha_drop: float = 0.1
    drop_path_rate: float = 0.05
    proj_drop: float = 0.0
    weight_init: WeightInit = "normal"
    activation_checkpoint: ActivationCheckpoint = "none"
    edge_memory_mb: int = 1024
    backend: Backend = "auto"
    precision: Precision = "highest"

    def __post_init__(self) -> None:
        check_kinds(self)
        sizes = (
            "num_layers", "sphere_channels", "attn_hidden_channels", "num_heads", "attn_alpha_channels",
            "attn_value_channels", "ffn_hidden_channels", "edge_channels", "max_num_elements", "num_radial_basis",
            "edge_memory_mb",
        )  # fmt: skip
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, got {getattr(self, name)!r}")
        for name in ("avg_num_nodes", "avg_degree"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        for name in ("alpha_drop", "drop_path_rate", "proj_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a probability and must lie in [0, 1), got {getattr(self, name)!r}")
        choices = {
            "norm_type": NormType, "distance_function": DistanceFunction,
            "weight_init": WeightInit, "backend": Backend, "precision": Precision,
            "activation_checkpoint": ActivationCheckpoint,
        }  # fmt: skip
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {list(get_args(kind))}, got {getattr(self, name)!r}")
        if self.num_radial_basis < 2:
            raise ValueError(f"num_radial_basis must be at least 2, got {self.num_radial_basis}")
        if self.share_atom_edge_embedding and not self.use_atom_edge_embedding:
            raise ValueError("share_atom_edge_embedding: true needs use_atom_edge_embedding: true")
        # these check themselves: now rather than at the first batch
        _ = self.neighbor_rule, self.sphere.edge_grid, self.sphere.ops

    @property
    def layout(self) -> CoefficientLayout:
        """Degrees and orders."""
        return CoefficientLayout(self.lmax, self.mmax)

    @property
    def neighbor_rule(self) -> NeighborRule:
        """Which pairs become edges."""
        return NeighborRule(self.max_radius, self.max_neighbors, self.enforce_max_neighbors_strictly)

    @property
    def sphere(self) -> SphereSpec:
        """Degrees, grid and backend."""
        return SphereSpec(
            layout=self.layout,
            grid_resolution=self.grid_resolution,
            backend=self.backend,
            precision=self.precision,
        )

    @property
    def edge_scalars(self) -> EdgeScalarSpec:
        """Inputs of the radial functions."""
        shared = 2 * self.edge_channels if self.share_atom_edge_embedding else 0
        return EdgeScalarSpec(
            num_inputs=self.num_radial_basis + shared,
            channels=self.edge_channels,
            num_elements=self.max_num_elements,
            element_tables=self.use_atom_edge_embedding and not self.share_atom_edge_embedding,
        )

    def attention(self, dropout: float) -> AttentionSpec:
        """Graph attention of the blocks, or of the force head with its own dropout."""
        return AttentionSpec(
            channels=self.sphere_channels,
            hidden_channels=self.attn_hidden_channels,
            num_heads=self.num_heads,
            alpha_channels=self.attn_alpha_channels,
            value_channels=self.attn_value_channels,
            activation="gate" if self.use_gate_act else self._s2_activation,
            renormalize=self.use_attn_renorm,
            share_radial_orders=self.use_m_share_rad,
            dropout=dropout,
            recompute=self.activation_checkpoint == "edges",
        )

    @property
    def feed_forward(self) -> FeedForwardSpec:
        """Feed-forward network; the grid MLP takes precedence over the gate, as in the official code."""
        gate = self.use_gate_act and not self.use_grid_mlp
        return FeedForwardSpec(
            channels=self.sphere_channels,
            hidden_channels=self.ffn_hidden_channels,
            activation="gate" if gate else self._s2_activation,
            grid_mlp=self.use_grid_mlp,
        )

    @property
    def block(self) -> BlockSpec:
        """A Transformer block."""
        return BlockSpec(
            attention=self.attention(self.alpha_drop),
            feed_forward=self.feed_forward,
            sphere=self.sphere,
            edge_scalars=self.edge_scalars,
            norm_type=self.norm_type,
            stochastic_depth=self.drop_path_rate,
            dropout=self.proj_drop,
        )

    @property
    def _s2_activation(self) -> Activation:
        return "separable_s2" if self.use_sep_s2_act else "s2"
