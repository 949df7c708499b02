"""Why weights may not fit a model: the likely reason, from names and shapes on both sides."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ev2_plugin.model.architecture import Architecture, Shapes, architecture_of

OTHER_MODELS: Mapping[str, tuple[str, ...]] = {
    "GemNet": ("int_blocks.", "out_blocks.", "atom_emb."),
    "eSCN": ("layer_blocks.", "energy_block."),
    "eSEN": ("blocks.0.edge_wise.", "edge_degree_embedding."),
    "SCN": ("edge_blocks.", "energy_fc1."),
    "PaiNN": ("message_layers.", "update_layers."),
    "SchNet": ("interactions.",),
    "DimeNet++": ("interaction_blocks.", "output_blocks."),
}
"""Beginnings of names in the other models of the host."""

_SIZES = (
    *("num_layers", "lmax", "mmax", "sphere_channels", "attn_hidden_channels", "num_heads", "attn_alpha_channels"),
    *("attn_value_channels", "ffn_hidden_channels", "edge_channels", "max_num_elements", "num_radial_basis"),
)
_TABLES = {
    "one pair per layer": "use_atom_edge_embedding: true, share_atom_edge_embedding: false",
    "one pair for all layers": "share_atom_edge_embedding: true",
    "none": "use_atom_edge_embedding: false",
}


def likely_reason(expected: Shapes, given: Shapes) -> str | None:
    """What probably is the matter when weights do not fit.

    Args:
        expected: Shapes by name that the model has.
        given: Those of the weights, without wrappers' prefixes and derived tables.

    Returns:
        One sentence or several; None if nothing of the known kind is.
    """
    if not given:
        return "the file holds no weights"
    model, weights = architecture_of(expected), architecture_of(given)
    if weights is None:
        return _other_model(given)
    if model is None:
        return "these are the weights of an EquiformerV2, and the config names another model"
    reasons = [*_layouts(model, weights), *_sizes(model, weights), *_switches(expected, given, model, weights)]
    return "; ".join(reasons) or None


def _other_model(given: Shapes) -> str:
    if all(name.startswith("output_heads.") for name in given):
        return "the file holds heads without a backbone"
    names = [re.sub(r"^(?:backbone|output_heads\.[^.]+)\.", "", name) for name in given]
    for model, begins in OTHER_MODELS.items():
        if all(any(name.startswith(begin) for name in names) for begin in begins):
            return f"these are not the weights of an EquiformerV2; their names are those of {model}"
    return "these are not the weights of an EquiformerV2"


def _layouts(model: Architecture, weights: Architecture) -> list[str]:
    if not weights.heads:
        return ["the file holds only a backbone: it has no weights of heads to predict with"]
    if model.hydra == weights.hydra:
        return _heads(model, weights)
    names = {True: "hydra (backbone and heads apart)", False: "flat"}
    wanted = "hydra" if model.hydra else "flat"
    return [
        f"the weights are {names[weights.hydra]}, the config's model is {names[model.hydra]}: "
        f"`ev2 convert --layout {wanted}` makes a file that fits"
    ]


def _heads(model: Architecture, weights: Architecture) -> list[str]:
    found = []
    if extra := [head for head in weights.heads if head not in model.heads]:
        where = "the config's model.heads lack" if weights.hydra else "the config's model lacks"
        found.append(f"the file has weights to predict {', '.join(extra)}, which {where}{_of_flat(weights, extra)}")
    if missing := [head for head in model.heads if head not in weights.heads]:
        found.append(
            f"the config's model predicts {', '.join(missing)}, for which the file has no weights"
            f"{_of_flat(weights, missing)}"
        )
    return found


def _of_flat(weights: Architecture, heads: list[str]) -> str:
    return " (regress_forces)" if not weights.hydra and heads == ["forces"] else ""


def _sizes(model: Architecture, weights: Architecture) -> list[str]:
    differ = [
        f"{name} {getattr(weights, name)} where the config says {getattr(model, name)}"
        for name in _SIZES
        if getattr(weights, name) != getattr(model, name)
    ]
    return [f"the weights are of another size: {', '.join(differ)}"] if differ else []


def _switches(expected: Shapes, given: Shapes, model: Architecture, weights: Architecture) -> list[str]:
    found = []
    if weights.element_tables != model.element_tables:
        found.append(f"the weights were trained with {_TABLES[weights.element_tables]}")
    if weights.linear_reference and not model.linear_reference:
        found.append("the file holds the per-element energies of OC22's models: load_energy_lin_ref: true")
    if model.linear_reference and not weights.linear_reference:
        found.append(
            "the config asks for the per-element energies of OC22's models (load_energy_lin_ref), and the file has none"
        )
    if weights.denoising and not model.denoising:
        found.append("the file is a DeNS model's: `ev2 convert` makes the plain one that predicts the same")
    switches = {
        "use_attn_renorm": "ga.alpha_norm.",
        "use_grid_mlp": "ffn.grid_mlp.",
        "norm_type: layer_norm_sh": "norm_1.norm_l0.",
        "the learnable distance basis": "distance_expansion.",
    }
    for switch, part in switches.items():
        there, wanted = (any(part in name for name in names) for names in (given, expected))
        if there != wanted:
            found.append(f"the weights were trained {'with' if there else 'without'} {switch}")
    return found
