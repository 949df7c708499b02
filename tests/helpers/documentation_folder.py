"""The folder in which the documentation's commands run: small files under the names that the pages use."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator

from ev2_plugin.demo.dataset import DatasetSize, build_dataset
from ev2_plugin.demo.emt import Labelled, relax_system
from ev2_plugin.demo.systems import AdsorbateSystem, Substrate
from ev2_plugin.integration.run_config import find_config, load_config
from helpers import official_checkpoints
from helpers.attacks import Attack
from helpers.run_files import RUN_FILES
from helpers.small_runs import SMALL_RUN, small_model

SYSTEMS = 12
STRIDE = 6  # of the steps of a relaxation that are kept


TARGETS = {"6_1134_23": [("heur3", -0.5), ("rand11", -1.25)]}
COMPUTE = {"6_1134_23": {"heur3": {"ionic": 30, "scf": 400}, "rand11": {"ionic": 50, "scf": 700}}}
VASP = """\
for folder in C/single_points/*/; do
    printf 'DAV: 1 -0.1E+03 -0.1E+03\\nDAV: 2 -0.1E+03 -0.1E-05\\n   1 F= -.1E+03 E0= -.1E+03\\n' > "$folder/OSZICAR"
done
"""
"""Leaves what `ev2 adsorbml collect` reads of a calculation."""
DFT = "system,slab_energy,adsorbate_energy\n" + "".join(
    f"{slab}_{adsorbate},10.0,-2.0\n" for slab in ("Pt111", "Cu-111-4x4x4") for adsorbate in ("OH", "CO")
)
SPLITS = {
    "data/s2ef/all/val_ood_cat": "data/mine/val",
    "s2ef/all/test_id": "data/mine/val",
    "s2ef/all/test_ood_ads": "data/mine/test",
    "s2ef/all/test_ood_cat": "data/mine/train",
    "s2ef/all/test_ood_both": "data/demo/s2ef/val",
}
NARROW = {"num_layers": 1, "sphere_channels": 16, "attn_hidden_channels": 16, "ffn_hidden_channels": 16}


def build(folder: Path, environment: dict[str, str]) -> None:
    """Fill the folder.

    Args:
        folder: To fill.
        environment: In which `ev2` is found.
    """
    _structures(folder)

    def ev2(*arguments: str) -> None:
        subprocess.run(["ev2", *arguments], cwd=folder, env=environment, check=True, capture_output=True)

    ev2("data", "prepare", "relaxations", "--out", "data/mine", "--split", "0.6,0.2,0.2", "--references", "none")
    build_dataset(folder / "data/demo", DatasetSize(4, 2, 2, 3), seed=0, cutoff=5.0, max_neighbors=12)
    shutil.copytree(folder / "data/demo/is2re", folder / "data/is2re")
    for name, source in SPLITS.items():
        shutil.copytree(folder / source, folder / name)
    (folder / "my.yml").write_text(yaml.safe_dump(_run_file(folder)), encoding="utf-8")
    for name, path in RUN_FILES.items():
        _write_small(folder, f"{name}.yml", f"{name}.yml", load_config(path)[0])
    prepared = folder / "data/mine/run.yml"
    _write_small(folder, "mine.yml", str(prepared), load_config(prepared)[0])
    ev2("fairchem", "--mode", "train", "--config-yml", "my.yml", "--cpu", "--timestamp-id", "RUN")
    for name in ("checkpoint.pt", "best_checkpoint.pt"):
        shutil.copy(folder / "checkpoints/RUN" / name, folder / name)
    _files_of_others(folder)


def _structures(folder: Path) -> None:
    """Relaxations with labels, frames of them in one file, slabs without labels."""
    for name in ("relaxations", "slabs"):
        (folder / name).mkdir()
    frames: list[Atoms] = []
    for system in _systems(np.random.default_rng(0)):
        path = [_labelled(step) for step in relax_system(system).path[::-STRIDE][::-1]]
        ase.io.write(folder / f"relaxations/{system.sid}.traj", path)
        frames += path[:2]
    ase.io.write(folder / "structures.extxyz", frames, columns=["symbols", "positions", "forces", "tags", "move_mask"])
    for name, frame in zip("ab", frames[::4], strict=False):
        ase.io.write(folder / f"slabs/{name}.vasp", frame, format="vasp")
    platinum = fcc111("Pt", (3, 3, 4), vacuum=8.0, periodic=True)
    platinum.set_tags(platinum.get_tags() <= 2)  # 1 at the surface, 0 below
    ase.io.write(folder / "slabs/Pt111.traj", platinum)


def _systems(rng: np.random.Generator) -> Iterator[AdsorbateSystem]:
    """Three adsorbates in turn, each near another place of a copper slab."""
    slab = Substrate("Cu", "Cu", 0.0, "111", (2, 2, 3), ((),) * 3)
    for sid in range(SYSTEMS):
        offset = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)))
        yield AdsorbateSystem(sid, slab, ("O", "H", "CO")[sid % 3], "fcc", offset, float(rng.uniform(0, 0.4)), 0.0, 0.0)


def _labelled(step: Labelled) -> Atoms:
    atoms = step.atoms.copy()
    atoms.info = {}
    atoms.calc = SinglePointCalculator(atoms, energy=step.energy, forces=step.forces)
    return atoms


def _run_file(folder: Path) -> dict[str, Any]:
    """The demo's run file on the prepared data, with a smaller model and one epoch."""
    prepared, _ = load_config(folder / "data/mine/run.yml")
    train = prepared["dataset"]["train"]
    transforms = {**train.get("transforms", {})}
    return {
        "includes": ["demo/s2ef.yml"],
        "model": NARROW,
        "dataset": {
            "train": {"src": "data/mine/train", "transforms": transforms},
            "val": {"src": "data/mine/val"},
            "test": {"src": "data/mine/val"},
            "relax": {"src": "data/is2re/val/data.lmdb", "format": "lmdb"},
        },
        "task": {"relaxation_steps": 5, "energy": "adsorption"},
        "optim": {"max_epochs": 1, "batch_size": 4},
    }


def _write_small(folder: Path, name: str, include: str, config: Mapping[str, Any]) -> None:
    """A run file with few channels, on data that are there.

    Args:
        folder: Where everything is.
        name: Of the file, under `small/`.
        include: The run file that is made small.
        config: Its content.
    """
    relaxed = "is2re" in name
    data = folder / "data" / ("is2re" if relaxed else "mine")
    small = {**small_model(config["model"]), **(SMALL_RUN if "optim" in config else {})}
    if name.startswith(("oc20/s2ef", "oc20/relax")):  # which the pages use with a checkpoint
        network = load_config(find_config(Path("demo/model.yml")))[0]["model"] | NARROW
        for listed in ("lmax_list", "mmax_list"):
            (network[listed.removesuffix("_list")],) = network.pop(listed)
        small |= {f"model.{key}": value for key, value in network.items()}
    for split in config["dataset"]:
        source = data / ("train" if split == "train" else "val")
        small[f"dataset.{split}.src"] = str(source / "data.lmdb" if relaxed else source)
    changes: dict[str, Any] = {"includes": [include]}
    for key, value in small.items():
        *above, last = key.split(".")
        section = changes
        for part in above:
            section = section.setdefault(part, {})
        section[last] = value
    path = folder / "small" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(changes), encoding="utf-8")


def _files_of_others(folder: Path) -> None:
    """What users download: checkpoints, OC20-Dense's tables, OC20's mapping, DFT references."""
    torch.save(official_checkpoints.oc20().content, folder / "eq2_31M_ec4_allmd.pt")
    torch.save(Attack(folder / "made_by_the_attack"), folder / "found_on_the_web.pt")
    for kind, content in (("targets", TARGETS), ("compute", COMPUTE)):
        (folder / f"oc20dense_{kind}.pkl").write_bytes(pickle.dumps(content))
    (folder / "campaign").mkdir()
    (folder / "vasp.sh").write_text(VASP, encoding="utf-8")
    (folder / "dft.csv").write_text(DFT, encoding="utf-8")
    sids = [str(path.stem) for path in (folder / "relaxations").glob("*.traj")]
    (folder / "oc20_data_mapping.pkl").write_bytes(
        pickle.dumps({f"random{sid}": {"ads_symbols": "*OH"} for sid in sids})
    )
    (folder / "sweep.yml").write_text(yaml.safe_dump({"optim.lr_initial": [0.001, 0.002]}), encoding="utf-8")
