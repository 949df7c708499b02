"""An adsorption energy from total energies: slab with adsorbate, less slab, less adsorbate.

Needs model.pt of 01_train.py in this folder; takes seconds. To search for the best of many placements, as AdsorbML
does, there is `ev2 adsorbml`.
"""

# %%
from pathlib import Path

from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import LBFGS

import ev2_plugin

if not Path("model.pt").exists():
    raise SystemExit("there is no model.pt here: run 01_train.py first, in this folder")

# %% [markdown]
# The kind of energy matters: differences like the one below are made of total energies. A model trained on adsorption
# energies, as those of OC20 are, says the answer by itself, for the slab with its adsorbate.

# %%
model = ev2_plugin.load("model.pt")
print(model.energy_kind)
if model.energy_kind.name != "total":
    raise SystemExit(f"model.pt predicts {model.energy_kind}")


# %%
def relaxed(atoms: Atoms, calculator: Calculator) -> Atoms:
    """The nearest minimum; the lower layer stays where it is."""
    atoms = atoms.copy()
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 2))
    atoms.calc = calculator
    LBFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
    return atoms


slab = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
with_oxygen = slab.copy()
add_adsorbate(with_oxygen, "O", 1.7, "fcc")

# %% [markdown]
# The model has seen no free oxygen, so its energy is the labels' own, as a gas-phase reference from DFT would be.

# %%
oxygen = Atoms("O", calculator=EMT()).get_potential_energy()
found = {}
for name, calculator in (("EquiformerV2", model.calculator()), ("EMT", EMT())):
    energies = [relaxed(one, calculator).get_potential_energy() for one in (with_oxygen, slab)]
    found[name] = energies[0] - energies[1] - oxygen
    print(f"{name}: adsorption energy {found[name]:.3f} eV")
print(f"difference {abs(found['EquiformerV2'] - found['EMT']):.3f} eV")
