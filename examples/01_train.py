"""Train a small EquiformerV2 on structures of your own: label, prepare, look, train, predict.

The labels come from ASE's EMT potential, in the place of DFT. It takes about a minute on two cores and leaves the data
in data/, the run in runs/train/ and the trained model in model.pt, for the other examples.
"""

# %%
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import ase.io
import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

import ev2_plugin


def ev2(*arguments: str, log: TextIO | None = None) -> None:
    """Run a command, as `ev2 ...` does in a terminal."""
    subprocess.run([sys.executable, "-m", "ev2_plugin", *arguments], check=True, stdout=log, stderr=log)


# %% [markdown]
# Labelled structures: copper slabs, half of them with an oxygen atom, away from their minima. Whatever has energies and
# forces and can be read by ASE will do: OUTCAR, vasprun.xml, .traj, .extxyz, ASE databases.


# %%
def labelled_slab(seed: int) -> Atoms:
    """A rattled slab whose lower layer is fixed, with energy [eV] and forces [eV/Å]."""
    rng = np.random.default_rng(seed)
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    if seed % 2:
        add_adsorbate(slab, "O", rng.uniform(1.2, 2.1), ["fcc", "hcp", "bridge"][seed // 2 % 3])
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
    slab.positions += rng.normal(scale=0.07, size=slab.positions.shape)
    slab.set_tags(0)  # ASE counts layers in them
    slab.info = {}
    slab.calc = EMT()
    energy, forces = slab.get_potential_energy(), slab.get_forces(apply_constraint=False)
    slab.calc = SinglePointCalculator(slab, energy=energy, forces=forces)
    return slab


frames = [labelled_slab(seed) for seed in range(160)]
ase.io.write("frames.traj", frames[:120])
ase.io.write("held_out.traj", frames[120:])

# %% [markdown]
# The dataset, with statistics, element references and a run file that has them all. For a larger model give another
# `--recipe`.

# %%
shutil.rmtree("data", ignore_errors=True)
ev2("data", "prepare", "frames.traj", "--out", "data", "--split", "0.8,0.1,0.1", "--recipe", "demo/s2ef.yml")

# %% [markdown]
# Look before you leap: a dry run reads, builds, trains a step and validates, and writes nothing. Then the training: any
# key of the run file can be set on the command line.

# %%
settings = ["--task.energy=total", "--model.num_layers=2", "--optim.max_epochs=12", "--optim.eval_every=36"]
ev2("check", "data/run.yml", "--cpu", *settings)
with Path("train.log").open("w") as log:  # the host says much
    ev2("fairchem", "--mode=train", "--config-yml=data/run.yml", "--run-dir=runs/train", "--cpu", *settings, log=log)

# %% [markdown]
# The best checkpoint, and how good it is on structures that it has never seen.

# %%
newest = max(Path("runs/train/checkpoints").glob("*/best_checkpoint.pt"), key=lambda path: path.stat().st_mtime)
shutil.copy(newest, "model.pt")
model = ev2_plugin.load("model.pt")
print(model)

held_out = ase.io.read("held_out.traj", ":")
predicted = model.predict(held_out)
errors = [one.energy - atoms.get_potential_energy() for one, atoms in zip(predicted, held_out, strict=True)]
labels = np.concatenate([atoms.get_forces(apply_constraint=False) for atoms in held_out])
forces = np.concatenate([one.forces for one in predicted])
print(f"energy MAE {np.abs(errors).mean():.3f} eV")
print(f"force MAE {np.abs(forces - labels).mean():.3f} eV/Å; {np.abs(labels).mean():.3f} of a model that says zero")
