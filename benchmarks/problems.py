"""What is timed: the models people run, the rows of the paper's Table 8, and slabs of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule

from ev2_plugin.graph.neighbors import NeighborRule
from ev2_plugin.integration.fidelity_cases import HEADS

SHAPES: dict[str, dict[str, Any]] = {
    "31M": {"lmax_list": [4], "mmax_list": [2], "num_layers": 8},
    "83M": {"lmax_list": [6], "mmax_list": [2], "num_layers": 12},
    "121M": {"lmax_list": [6], "mmax_list": [2], "num_layers": 18},
    "153M": {"lmax_list": [6], "mmax_list": [3], "num_layers": 20},
    "86M-OMat": {"lmax_list": [6], "mmax_list": [4], "num_layers": 10, "max_num_elements": 96},
}
"""What differs between the official models (paper Table 7; OC22: Table 11; OMat24: eqV2_86M.yml)."""

SMALL: Mapping[str, Any] = {
    "lmax_list": [3], "mmax_list": [2], "num_layers": 1, "sphere_channels": 16, "attn_hidden_channels": 8,
    "num_heads": 2, "attn_alpha_channels": 8, "attn_value_channels": 4, "ffn_hidden_channels": 16,
    "edge_channels": 16, "grid_resolution": 10,
}  # fmt: skip
"""Sizes at which everything runs in a moment."""

GATE = {"use_gate_act": True, "use_grid_mlp": False, "norm_type": "layer_norm"}
TABLE_8: dict[str, dict[str, Any]] = {
    "no re-norm., gate, LN": {**GATE, "use_attn_renorm": False},
    "gate, LN": GATE,
    "S2, LN": {"use_sep_s2_act": False, "norm_type": "layer_norm"},
    "sep. S2, LN": {"norm_type": "layer_norm"},
    "sep. S2, SLN (base)": {},
    "base, L = 4": {"lmax_list": [4]},
    "base, L = 8": {"lmax_list": [8]},
    "base, M = 3": {"mmax_list": [3]},
    "base, M = 4": {"mmax_list": [4]},
    "base, M = 6": {"mmax_list": [6]},
    "31M": SHAPES["31M"],
    "153M": SHAPES["153M"],
}
"""Rows of Table 8 of the paper, which gives GPU-hours of training and samples per GPU-second of inference on V100
cards, as changes of the 83M model. The base row stands there once per data set; here once per architecture."""

PAPER_TABLE_8: dict[str, tuple[float, float]] = {
    "no re-norm., gate, LN": (965, 19.06),
    "gate, LN": (998, 19.07),
    "S2, LN": (1476, 12.80),
    "sep. S2, LN": (1505, 12.51),
    "sep. S2, SLN (base)": (1412, 13.22),
    "base, L = 4": (965, 19.86),
    "base, L = 8": (2709, 7.86),
    "base, M = 3": (1623, 11.92),
    "base, M = 4": (2706, 7.98),
    "base, M = 6": (3052, 7.13),
    "31M": (16931, 29.21),
    "153M": (37692, 6.08),
}
"""Its two columns. Training hours of the first ten rows are for OC20-2M, of the last two for All+MD."""

RULE = NeighborRule(cutoff=12.0, max_neighbors=20)


def settings(model: str, *, small: bool = False, **changes: Any) -> dict[str, Any]:
    """The model section of the official YAML file; edges come with the data, dropout off: each side draws its own.

    Args:
        model: A name in `SHAPES`.
        small: The same switches at the sizes of `SMALL`.
        **changes: Keys of a row of `TABLE_8`, or others of the host's.

    Returns:
        The flat layout, or for the OMat24 model the host's hydra layout with energy, forces and stress.
    """
    flat = {
        "use_pbc": True, "otf_graph": False, "regress_forces": True, "max_neighbors": RULE.max_neighbors,
        "max_radius": RULE.cutoff, "max_num_elements": 90, "sphere_channels": 128, "attn_hidden_channels": 64,
        "num_heads": 8, "attn_alpha_channels": 64, "attn_value_channels": 16, "ffn_hidden_channels": 128,
        "edge_channels": 128, "norm_type": "layer_norm_sh", "grid_resolution": 18, "use_grid_mlp": True,
        "alpha_drop": 0.0, "drop_path_rate": 0.0, "weight_init": "uniform",
        **SHAPES[model], **changes, **(SMALL if small else {}),
    }  # fmt: skip
    if model != "86M-OMat":
        return flat
    heads = HEADS["hydra: energy, forces, stress parts"]
    return {
        "backbone": {**flat, "model": "equiformer_v2_backbone"},
        "heads": {name: dict(head) for name, head in heads.items()},
        "otf_graph": flat["otf_graph"],
    }


def slab(side: int = 4, layers: int = 4) -> Atoms:
    """CO on a copper slab of side x side x layers atoms, off its lattice so that no two distances are equal.

    The default has 66 atoms, and 1320 edges at 20 neighbours: about the mean of OC20.
    """
    atoms = fcc111("Cu", (side, side, layers), vacuum=10, periodic=True)
    add_adsorbate(atoms, molecule("CO"), 1.9, "ontop")
    atoms.rattle(0.05, seed=0)
    return atoms


def eighty_atoms() -> Atoms:
    """A slab of exactly 80 atoms: CO on 78 copper atoms."""
    atoms = slab(side=4, layers=5)
    del atoms[[0, 1]]  # of the bottom layer
    return atoms
