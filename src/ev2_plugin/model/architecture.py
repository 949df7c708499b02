"""What the names and shapes of weights say about the EquiformerV2 they belong to, without its settings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ev2_plugin.model.state_dict import DERIVED, strip_module_prefix

Shapes = Mapping[str, tuple[int, ...]]
Tables = Literal["one pair per layer", "one pair for all layers", "none"]

_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_ORDER = re.compile(r"^blocks\.0\.ga\.so2_conv_1\.so2_m_conv\.(\d+)\.fc\.weight$")
_HEAD = re.compile(r"^output_heads\.([^.]+)\.")
_BLOCK_OF_HEAD = re.compile(r"^(?:output_heads\.[^.]+\.)?(energy_block|scalar_block|force_block|vector_block)\.")
_DENOISING = re.compile(r"(?:^|\.)(?:force_embedding|noise_schedule_sigma_embedding|denoising_pos_block)\.")
_KINDS = {"energy_block": "energy", "scalar_block": "energy", "force_block": "forces", "vector_block": "forces"}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An EquiformerV2 as its weights show it; field names are those of `ModelConfig` where it has them.

    Attributes:
        hydra: Weights of a backbone and of heads apart.
        num_layers: Transformer blocks.
        lmax: Largest degree.
        mmax: Largest order of edge convolutions.
        sphere_channels: Channels of node features.
        attn_hidden_channels: Channels inside attention.
        num_heads: Attention heads.
        attn_alpha_channels: Scalars per head for attention weights.
        attn_value_channels: Value channels per head.
        ffn_hidden_channels: Channels inside the feed-forward network.
        edge_channels: Hidden width of the radial functions.
        max_num_elements: Rows of the element tables.
        element_tables: Of elements in the radial functions.
        num_radial_basis: Distance basis functions.
        heads: Names of what is predicted: of the heads, or `energy` and `forces` of a flat model.
        linear_reference: Per-element energies are among the weights.
        denoising: Weights that only denoising uses are among them.
        parameters: How many numbers the weights are.
    """

    hydra: bool
    num_layers: int
    lmax: int
    mmax: int
    sphere_channels: int
    attn_hidden_channels: int
    num_heads: int
    attn_alpha_channels: int
    attn_value_channels: int
    ffn_hidden_channels: int
    edge_channels: int
    max_num_elements: int
    element_tables: Tables
    num_radial_basis: int
    heads: tuple[str, ...]
    linear_reference: bool
    denoising: bool
    parameters: int


def shapes_of_weights(named: Iterable[tuple[str, Iterable[int]]]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, without wrappers' `module.` and without tables that follow from the settings."""
    plain = ((strip_module_prefix(name), tuple(shape)) for name, shape in named)
    return {name: shape for name, shape in plain if not DERIVED.search(name)}


def architecture_of(shapes: Shapes) -> Architecture | None:
    """Read an architecture off names and shapes.

    Args:
        shapes: As `shapes_of_weights` returns them.

    Returns:
        None if these are not the weights of an EquiformerV2.
    """
    hydra = any(name.startswith("backbone.") for name in shapes)
    network = {name.removeprefix("backbone."): shape for name, shape in shapes.items()}
    try:
        return _read(network, hydra, parameters=sum(map(math.prod, shapes.values())))
    except (IndexError, KeyError, ValueError, ZeroDivisionError):  # a name or an axis that this model has is missing
        return None


def _read(network: Shapes, hydra: bool, parameters: int) -> Architecture:
    attention = "blocks.0.ga."
    elements, channels = network["sphere_embedding.weight"]
    degrees, _, values = network[f"{attention}proj.weight"]
    num_heads, alpha = network[f"{attention}alpha_dot"][-2:]
    edge_channels, scalars = network[f"{attention}so2_conv_1.rad_func.net.0.weight"]
    tables: Tables = "none"
    if f"{attention}source_embedding.weight" in network:
        tables = "one pair per layer"
        scalars -= 2 * network[f"{attention}source_embedding.weight"][1]
    elif "source_embedding.weight" in network:
        tables = "one pair for all layers"
        scalars -= 2 * network["source_embedding.weight"][1]
    return Architecture(
        hydra=hydra,
        num_layers=1 + max(int(found[1]) for name in network if (found := _BLOCK.match(name))),
        lmax=degrees - 1,
        mmax=1 + max((int(found[1]) for name in network if (found := _ORDER.match(name))), default=-1),
        sphere_channels=channels,
        attn_hidden_channels=network[f"{attention}so2_conv_2.fc_m0.weight"][1] // degrees,
        num_heads=num_heads,
        attn_alpha_channels=alpha,
        attn_value_channels=values // num_heads,
        ffn_hidden_channels=network["blocks.0.ffn.so3_linear_1.weight"][1],
        edge_channels=edge_channels,
        max_num_elements=elements,
        element_tables=tables,
        num_radial_basis=scalars,
        heads=_heads(network),
        linear_reference="energy_lin_ref" in network,
        denoising=any(_DENOISING.search(name) for name in network),
        parameters=parameters,
    )


def _heads(network: Shapes) -> tuple[str, ...]:
    of_hydra = [found[1] for name in network if (found := _HEAD.match(name))]
    of_flat = [_KINDS[found[1]] for name in network if (found := _BLOCK_OF_HEAD.match(name))]
    return tuple(dict.fromkeys(of_hydra or of_flat))
