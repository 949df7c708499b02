"""What is compared with the host: every switch it has, the degrees and orders in use, and three kinds of structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule

from ev2_plugin.graph.neighbors import NeighborRule

RULE = NeighborRule(cutoff=6.0, max_neighbors=20)
"""Edges of every comparison."""

BASE: Mapping[str, Any] = {
    "use_pbc": True, "otf_graph": False, "regress_forces": True,
    "max_neighbors": RULE.max_neighbors, "max_radius": RULE.cutoff, "max_num_elements": 90,
    "num_layers": 2, "sphere_channels": 16, "attn_hidden_channels": 8, "num_heads": 2,
    "attn_alpha_channels": 8, "attn_value_channels": 4, "ffn_hidden_channels": 16, "edge_channels": 16,
    "norm_type": "layer_norm_sh", "grid_resolution": 18, "use_grid_mlp": True,
    "alpha_drop": 0.0, "drop_path_rate": 0.0, "weight_init": "uniform",
}  # fmt: skip
"""The paper's settings, narrow; dropout off, since the two sides draw different random numbers."""

SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "no attention re-normalisation": {"use_attn_renorm": False},
    "gate activation": {"use_gate_act": True, "use_grid_mlp": False},
    "gate in attention, grid MLP in FFN": {"use_gate_act": True},
    "S2 activation": {"use_sep_s2_act": False, "use_grid_mlp": False},
    "S2 activation, grid MLP": {"use_sep_s2_act": False},
    "separable S2 activation, no grid MLP": {"use_grid_mlp": False},
    "layer norm per degree": {"norm_type": "layer_norm"},
    "RMS norm": {"norm_type": "rms_norm_sh"},
    "m-shared radial weights": {"use_m_share_rad": True},
    "no element embeddings on edges": {"use_atom_edge_embedding": False},
    "shared element embeddings on edges": {"share_atom_edge_embedding": True},
    "smallest grid": {"grid_resolution": None},
    "normal weight initialisation": {"weight_init": "normal"},
    "energies without forces": {"regress_forces": False},
}
"""Each switch of the official code, as a change of `BASE`."""

SHAPES = ((2, 2), (3, 2), (4, 2), (6, 2), (6, 3), (6, 4))
"""(lmax, mmax)."""

HEADS: Mapping[str, Mapping[str, Any]] = {
    "hydra: energy, forces, stress parts": {
        "energy": {"module": "equiformerV2_scalar_head"},
        "forces": {"module": "equiformerV2_vector_head"},
        "stress": {
            "module": "rank2_symmetric_head", "output_name": "stress", "decompose": True,
            "edge_level_mlp": True, "use_source_target_embedding": True,
        },
    },
    "hydra: mean energy, whole stress": {
        "energy": {"module": "equiformerV2_scalar_head", "reduce": "mean"},
        "stress": {"module": "rank2_symmetric_head", "output_name": "stress"},
    },
    "hydra: extensive stress parts": {
        "stress": {
            "module": "rank2_symmetric_head", "output_name": "stress", "decompose": True,
            "extensive": True, "avg_num_nodes": 7.0, "num_mlp_layers": 3,
        },
    },
}  # fmt: skip
"""Heads of the host's hydra layout."""


def flat_settings(switch: str, shape: tuple[int, int]) -> dict[str, Any]:
    """The model section of a flat comparison."""
    return {**BASE, **SWITCHES[switch], "lmax_list": [shape[0]], "mmax_list": [shape[1]]}


def hydra_settings(heads: str, shape: tuple[int, int]) -> dict[str, Any]:
    """The model section of a hydra comparison, with the host's names."""
    backbone = {**flat_settings("paper", shape), "model": "equiformer_v2_backbone"}
    return {
        "backbone": backbone,
        "heads": {name: dict(head) for name, head in HEADS[heads].items()},
        "otf_graph": False,
    }


def structures() -> dict[str, Atoms]:
    """A slab with adsorbate, a bulk crystal and a molecule, off their symmetric positions."""
    slab = fcc111("Pt", (2, 2, 3), vacuum=6, periodic=True)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop")
    slab.rattle(0.1, seed=1)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    crystal.rattle(0.1, seed=2)
    ethanol = molecule("CH3CH2OH", cell=[20, 21, 22], pbc=True)
    ethanol.rattle(0.02, seed=3)
    return {"slab with adsorbate": slab, "crystal": crystal, "molecule": ethanol}
