"""Tune a trained model to structures that it was not trained on: here another facet of the same metal.

Needs model.pt of 01_train.py in this folder; takes about a minute on two cores. The tuned model is tuned/tuned.pt.
"""

# %%
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

import ev2_plugin

if not Path("model.pt").exists():
    raise SystemExit("there is no model.pt here: run 01_train.py first, in this folder")


# %%
def labelled_slab(seed: int) -> Atoms:
    """Oxygen on Cu(100), rattled, the lower layer fixed, with energy [eV] and forces [eV/Å]."""
    rng = np.random.default_rng(seed)
    slab = fcc100("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    if seed % 2:
        add_adsorbate(slab, "O", rng.uniform(0.8, 1.6), "hollow")
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
    slab.positions += rng.normal(scale=0.07, size=slab.positions.shape)
    slab.set_tags(0)  # ASE counts layers in them
    slab.info = {}
    slab.calc = EMT()
    energy, forces = slab.get_potential_energy(), slab.get_forces(apply_constraint=False)
    slab.calc = SinglePointCalculator(slab, energy=energy, forces=forces)
    return slab


frames = [labelled_slab(seed) for seed in range(80)]
ase.io.write("facet.traj", frames[:60])
held_out = frames[60:]

# %% [markdown]
# One command compares the kinds of energy, prepares the data, checks the run, trains, and judges before and after.

# %%
command = ["finetune", "facet.traj", "--checkpoint", "model.pt", "--out", "tuned"]
options = ["--epochs", "6", "--batch-size", "8", "--lr", "5e-4", "--device", "cpu"]
subprocess.run([sys.executable, "-m", "ev2_plugin", *command, *options], check=True)


# %%
def force_mae(checkpoint: str) -> float:
    """Of structures that neither model has seen, eV/Å."""
    predicted = ev2_plugin.load(checkpoint).predict(held_out)
    errors = [
        one.forces - atoms.get_forces(apply_constraint=False) for one, atoms in zip(predicted, held_out, strict=True)
    ]
    return float(np.abs(np.concatenate(errors)).mean())


print(f"force MAE on Cu(100): {force_mae('model.pt'):.3f} eV/Å before, {force_mae('tuned/tuned.pt'):.3f} after")
