"""Relax many structures at once with a trained model, and ask EMT what it thinks of the result.

Needs model.pt of 01_train.py in this folder; takes seconds.
"""

# %%
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

if not Path("model.pt").exists():
    raise SystemExit("there is no model.pt here: run 01_train.py first, in this folder")

# %% [markdown]
# Starts: an oxygen atom above different sites. Atoms fixed in the file stay fixed.

# %%
starts = []
for site in ("fcc", "hcp", "bridge"):
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
    add_adsorbate(slab, "O", 1.8, site)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
    slab.info = {}
    starts.append(slab)
ase.io.write("starts.traj", starts)

# %% [markdown]
# All of them in one batch; the same command goes on where it was stopped. Exit status 3 says that some did not
# converge.

# %%
command = [
    "relax",
    "starts.traj",
    "--checkpoint",
    "model.pt",
    "--out",
    "relaxed.traj",
    "--fmax",
    "0.1",
    "--steps",
    "100",
]
status = subprocess.run([sys.executable, "-m", "ev2_plugin", *command]).returncode
print("all converged" if status == 0 else f"exit status {status}")

# %%
for start, end in zip(starts, ase.io.read("relaxed.traj", ":"), strict=True):
    start.calc, predicted = EMT(), end.get_potential_energy()
    end.calc = EMT()
    force = np.linalg.norm(end.get_forces(), axis=1).max()
    print(
        f"{end.info['id']}: {end.info['steps']} steps, {predicted:.3f} eV by the model; by EMT "
        f"{start.get_potential_energy():.3f} -> {end.get_potential_energy():.3f} eV, largest force {force:.3f} eV/Å"
    )
