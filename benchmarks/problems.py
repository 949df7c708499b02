"""What is timed: the models people run, on a slab of ordinary size."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule

SHAPES: dict[str, dict[str, Any]] = {
    "31M": {"lmax_list": [4], "mmax_list": [2], "num_layers": 8},
    "83M": {"lmax_list": [6], "mmax_list": [2], "num_layers": 12},
    "121M": {"lmax_list": [6], "mmax_list": [2], "num_layers": 18},
    "153M": {"lmax_list": [6], "mmax_list": [3], "num_layers": 20},
}
"""What differs between the official models (paper Table 7; OC22: Table 11)."""


def settings(model: str) -> dict[str, Any]:
    """The model section of the official YAML file; edges come with the data, dropout off: each side draws its own."""
    return {
        "use_pbc": True, "otf_graph": False, "regress_forces": True, "max_neighbors": 20, "max_radius": 12.0,
        "max_num_elements": 90, "sphere_channels": 128, "attn_hidden_channels": 64, "num_heads": 8,
        "attn_alpha_channels": 64, "attn_value_channels": 16, "ffn_hidden_channels": 128, "edge_channels": 128,
        "norm_type": "layer_norm_sh", "grid_resolution": 18, "use_grid_mlp": True, "alpha_drop": 0.0,
        "drop_path_rate": 0.0, "weight_init": "uniform", **SHAPES[model],
    }  # fmt: skip


def slab() -> Atoms:
    """CO on a 4 x 4 x 4 copper slab: 66 atoms, 1320 edges at 20 neighbours."""
    atoms = fcc111("Cu", (4, 4, 4), vacuum=10, periodic=True)
    add_adsorbate(atoms, molecule("CO"), 1.9, "ontop")
    atoms.rattle(0.05, seed=0)
    return atoms
