"""What a pass through the backbone takes at the least, counted from the sizes of the tensors that must live together.

`memory_trace` says how much it is; this says in no time how much it cannot be less than, so that a batch that cannot
fit is refused before anything of it is computed. Tests hold it between 0.3 of what is traced and all of it.
"""

from __future__ import annotations

import torch

from ev2_plugin.model.backbone import Backbone

_INDICES = 44
"""Bytes of an edge besides features: its atoms, their elements, its vector."""


def least_memory(model: Backbone, atoms: int, edges: int, autocast: torch.dtype | None = None) -> int:
    """Bytes, besides the parameters, without which a batch cannot be computed.

    With gradients switched on, those of a forward pass of training, otherwise of a prediction.

    Args:
        model: Whose pass.
        atoms: In the batch.
        edges: In the batch.
        autocast: The dtype of automatic mixed precision.
    """
    config, layout, weight = model.config, model.config.layout, model.sphere_embedding.weight
    attention, coefficients, kept = config.attention(0.0), layout.num_coefficients, layout.num_kept
    whole = weight.dtype.itemsize
    size = whole if autocast is None else (whole + min(whole, autocast.itemsize)) / 2  # not all is in half precision
    frames = edges * (whole * (2 * kept * coefficients + config.num_radial_basis) + _INDICES)
    block_input = size * atoms * coefficients * config.sphere_channels
    smallest = size * atoms * coefficients * min(config.sphere_channels, config.ffn_hidden_channels)
    of_edges = size * edges * kept * (2 * attention.hidden_channels + attention.num_heads * attention.value_channels)
    if not (torch.is_grad_enabled() and weight.requires_grad):
        part = min(1.0, model.edges_within_memory(weight.dtype) / max(edges, 1))
        return round(frames + max(3 * (block_input + smallest), part * of_edges / 2))
    of_atoms = 4 * (block_input + smallest)
    if config.activation_checkpoint == "block":
        return round(frames + config.num_layers * block_input + of_atoms + of_edges)
    if config.activation_checkpoint == "edges":
        return round(frames + config.num_layers * of_atoms + of_edges / 2)
    return round(frames + config.num_layers * (of_atoms + of_edges))
