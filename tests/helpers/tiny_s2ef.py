"""Eight-atom copper slabs with EMT labels in every format the launcher reads, and configs to train on them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import ase.db
import lmdb
import numpy as np
import yaml
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from fairchem.core.preprocessing import AtomsToGraphs

NUM_STRUCTURES = 4
FLAT_MODEL = {
    "name": "ev2_plugin.EquiformerV2",
    "use_pbc": True,
    "regress_forces": True,
    "otf_graph": True,
    "max_neighbors": 12,
    "max_radius": 4.0,
    "max_num_elements": 90,
    "num_layers": 1,
    "sphere_channels": 16,
    "attn_hidden_channels": 8,
    "num_heads": 2,
    "attn_alpha_channels": 8,
    "attn_value_channels": 4,
    "ffn_hidden_channels": 16,
    "norm_type": "layer_norm_sh",
    "lmax_list": [2],
    "mmax_list": [1],
    "grid_resolution": 8,
    "edge_channels": 16,
    "alpha_drop": 0.0,
    "drop_path_rate": 0.0,
    "weight_init": "uniform",
}
_FLAT_ONLY = ("name", "regress_forces", "use_pbc", "otf_graph")
HYDRA_MODEL = {
    "name": "hydra",
    "pass_through_head_outputs": True,
    "otf_graph": True,
    "backbone": {
        "model": "ev2_backbone",
        "otf_graph": True,
        "use_pbc": True,
        **{key: value for key, value in FLAT_MODEL.items() if key not in _FLAT_ONLY},
    },
    "heads": {"energy": {"module": "ev2_energy_head"}, "forces": {"module": "ev2_force_head"}},
}
COSINE = {
    "scheduler": "LambdaLR",
    "scheduler_params": {
        "lambda_type": "cosine",
        "warmup_factor": 0.2,
        "warmup_epochs": 1,
        "lr_min_factor": 0.01,
    },
}
_PLATEAU = {"scheduler": "ReduceLROnPlateau", "mode": "min", "factor": 0.8, "patience": 3}


def slabs() -> list[Atoms]:
    """Return rattled slabs, lower layer fixed, labelled with EMT."""
    rng = np.random.default_rng(0)
    labelled = []
    for _ in range(NUM_STRUCTURES):
        slab = fcc111("Cu", size=(2, 2, 2), vacuum=6.0, periodic=True)
        slab.positions += rng.normal(scale=0.1, size=slab.positions.shape)
        slab.set_constraint(FixAtoms(indices=[atom.index for atom in slab if atom.tag == 2]))
        slab.calc = EMT()
        energy, forces = slab.get_potential_energy(), slab.get_forces(apply_constraint=False)
        slab.calc = SinglePointCalculator(slab, energy=energy, forces=forces)
        labelled.append(slab)
    return labelled


def write_dataset(format_name: str, folder: Path) -> dict[str, Any]:
    """Write the slabs as one of the host's formats and return the `dataset.train` part of a config."""
    folder.mkdir(parents=True)
    if format_name == "ase_db":
        with ase.db.connect(folder / "slabs.aselmdb", type="aselmdb") as database:
            for slab in slabs():
                database.write(slab)
        arguments = {"r_energy": True, "r_forces": True}
        return {"format": format_name, "src": str(folder), "a2g_args": arguments}

    path = folder / "data.0000.lmdb"
    converter = AtomsToGraphs(r_energy=True, r_forces=True, r_fixed=True, r_pbc=True, r_edges=False)
    environment = lmdb.open(str(path), map_size=2**24, subdir=False, meminit=False, map_async=True)
    with environment.begin(write=True) as transaction:
        for index, slab in enumerate(slabs()):
            data = converter.convert(slab)
            data.tags = data.tags.long() if "tags" in data else None
            data.sid, data.fid = index, 0
            transaction.put(str(index).encode(), pickle.dumps(data, protocol=-1))
        transaction.put(b"length", pickle.dumps(NUM_STRUCTURES))
    environment.close()
    single_file = format_name == "single_point_lmdb"
    return {"format": format_name, "src": str(path if single_file else folder)}


def config(dataset: dict[str, Any], model: dict[str, Any], trainer: str) -> dict[str, Any]:
    """Return the config of a run of two steps over `dataset`, able to validate, predict and relax."""
    forces = {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True}
    return {
        "trainer": trainer,
        "logger": "tensorboard",
        "model": model,
        "dataset": {split: dict(dataset) for split in ("train", "val", "test", "relax")},
        "outputs": {
            "energy": {"shape": 1, "level": "system"},
            "forces": {"irrep_dim": 1, **forces},
        },
        "loss_functions": [
            {"energy": {"fn": "mae", "coefficient": 2}},
            {"forces": {"fn": "l2mae", "coefficient": 100}},
        ],
        "evaluation_metrics": {
            "metrics": {"energy": ["mae"], "forces": ["mae"]},
            "primary_metric": "forces_mae",
        },
        "task": {
            "dataset": "lmdb",
            "prediction_dtype": "float32",
            "write_pos": True,
            "relaxation_steps": 2,
            "relaxation_fmax": 0.01,
            "relax_opt": {"maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0},
        },
        "optim": {
            "batch_size": 2,
            "eval_batch_size": 2,
            "load_balancing": "atoms",
            "load_balancing_on_error": "warn_and_no_balance",
            "num_workers": 0,
            "lr_initial": 0.0004,
            "optimizer": "AdamW",
            "optimizer_params": {"weight_decay": 0.001},
            **copy.deepcopy(_PLATEAU if trainer == "ocp" else COSINE),  # tests change what they get
            "max_epochs": 1,
            "clip_grad_norm": 100,
            "ema_decay": 0.999,
            "eval_every": 2,
            "checkpoint_every": -1,
        },
    }


def write_config(path: Path, content: dict[str, Any]) -> Path:
    """Write a config as YAML."""
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
