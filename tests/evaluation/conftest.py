from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from torch_geometric.data import Data

from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.data.structures import structure_to_data

CELLS = {
    "cubic": [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]],
    "skewed": [[7.0, 0.0, 0.0], [3.2, 6.5, 0.0], [-1.5, 2.0, 12.0]],
}


@pytest.fixture
def random_data() -> Callable[..., Data]:
    """Make labelled structures of random atoms, the first two fixed and the last two the adsorbate."""

    def make(
        sid: int, fid: int | None = 0, *, cell: str = "skewed", pbc: tuple[bool, ...] = (True, True, True)
    ) -> Data:
        rng = np.random.default_rng([sid, fid or 0])
        number = int(rng.integers(5, 12))
        atoms = Atoms(
            numbers=[*rng.choice([13, 29, 78], size=number - 2), *((8, 1) if sid % 2 else (6, 8))],
            scaled_positions=rng.random((number, 3)),
            cell=CELLS[cell],
            pbc=pbc,
            tags=[0, 0, *[1] * (number - 4), 2, 2],
            constraint=FixAtoms([0, 1]),
        )
        data = structure_to_data(
            atoms, sid=sid, fid=fid, energy=float(rng.normal()), forces=rng.normal(size=(number, 3))
        )
        data.y_relaxed = float(rng.normal())
        data.pos_relaxed = data.pos + torch.tensor(rng.normal(scale=0.1, size=(number, 3)), dtype=torch.float32)
        return data

    return make


@pytest.fixture
def near() -> Callable[..., StructurePrediction]:
    """Predict a structure's labels but for errors of a width."""

    def predict(data: Data, width: float) -> StructurePrediction:
        rng = np.random.default_rng([7, data.sid])
        forces = data.force[data.fixed == 0].numpy()
        return StructurePrediction(data.y + width * rng.normal(), forces + width * rng.normal(size=forces.shape))

    return predict
