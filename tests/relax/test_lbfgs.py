"""L-BFGS against the dense formula, the host's optimiser and ASE's minima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.optimize import LBFGS as AseLBFGS
from fairchem.core.common.relaxation.optimizable import OptimizableBatch
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS as HostLBFGS
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data

from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.potential.protocol import Potential, Prediction
from ev2_plugin.potential.structures import Structures, from_atoms
from ev2_plugin.relax.lbfgs import LBFGS, two_loops
from ev2_plugin.relax.per_structure import segments
from ev2_plugin.relax.relaxation import Relaxation
from ev2_plugin.relax.settings import Budget, Settings
from helpers.potentials import Wells, emt, rough_slabs, scattered

IDS = [f"s{index}" for index in range(20)]


def test_the_two_loops_are_the_inverse_hessian_of_the_update_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    natoms = torch.tensor([2, 1, 4])
    pairs, first = [3, 0, 2], 1 / 70
    s = torch.zeros(7, 5, 3, dtype=torch.float64)
    y, rho = s.clone(), torch.zeros(3, 5, dtype=torch.float64)
    forces = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    expected = []
    for structure, (start, end) in enumerate([(0, 2), (2, 3), (3, 7)]):
        inverse = first * torch.eye(3 * (end - start), dtype=torch.float64)
        for age in reversed(range(pairs[structure])):  # oldest first
            s[start:end, age] = torch.randn(end - start, 3, generator=generator, dtype=torch.float64)
            y[start:end, age] = s[start:end, age] * 3 + 0.3 * torch.randn(
                end - start, 3, generator=generator, dtype=torch.float64
            )
            one_s, one_y = s[start:end, age].reshape(-1), y[start:end, age].reshape(-1)
            rho[structure, age] = 1 / (one_y @ one_s)
            left = torch.eye(len(one_s), dtype=torch.float64) - rho[structure, age] * torch.outer(one_s, one_y)
            inverse = left @ inverse @ left.T + rho[structure, age] * torch.outer(one_s, one_s)
        expected.append((inverse @ forces[start:end].reshape(-1)).reshape(-1, 3))
    found = two_loops(s, y, rho, forces, segments(natoms, 7), 3, first)
    assert torch.allclose(found, torch.cat(expected), rtol=1e-12, atol=1e-14)


class HostTrainer:
    """What the host's optimisable batch asks of a trainer, over one of our potentials."""

    device = torch.device("cpu")

    def __init__(self, potential: Potential) -> None:
        self.potential = potential

    def predict(self, batch: Data, **_: object) -> dict[str, torch.Tensor]:
        prediction = self.potential(
            Structures(
                ids=tuple(map(str, range(len(batch.natoms)))),
                atomic_numbers=batch.atomic_numbers.long(),
                positions=batch.pos,
                cells=batch.cell,
                pbc=batch.pbc.reshape(-1, 3),
                natoms=batch.natoms,
                fixed=batch.fixed == 1,
                tags=batch.tags,
            )
        )
        return {"energy": prediction.energy, "forces": prediction.forces.clone()}


def host_trajectory(atoms: Atoms, potential: Potential, optimizer: LBFGS, steps: int) -> list[np.ndarray]:
    """Positions of the host's relaxation of one structure by itself, as it asks for their energies."""
    batch = data_list_collater([structure_to_data(atoms, sid=0)], otf_graph=True)
    settings = {name: getattr(optimizer, name) for name in ("maxstep", "memory", "damping", "alpha")}
    seen: list[np.ndarray] = []

    def record(structures: Structures) -> Prediction:
        if not seen or not np.array_equal(seen[-1], structures.positions.numpy()):
            seen.append(structures.positions.numpy().copy())
        return potential(structures)

    host = HostLBFGS(OptimizableBatch(batch, trainer=HostTrainer(record)), **settings, traj_names=[])
    host.run(fmax=0.01, steps=steps)
    return seen


def our_trajectories(
    structures: list[Atoms], potential: Potential, optimizer: LBFGS, steps: int, together: int
) -> dict[int, list[np.ndarray]]:
    """Positions of each structure's relaxation, in batches, from float32 positions as the host has them."""
    frames: dict[int, list[np.ndarray]] = {}

    class Source:
        ids = IDS[: len(structures)]

        def __len__(self) -> int:
            return len(structures)

        def __getitem__(self, index: int) -> Structures:
            one = from_atoms([structures[index]], [self.ids[index]])
            return one.moved_to(one.positions.float())

    def keep(group, prediction) -> None:
        parts = group.structures.positions.split(group.structures.natoms.tolist())
        for member, part in zip(group.members, parts, strict=True):
            frames.setdefault(member.index, []).append(part.numpy().copy())

    settings = Settings(optimizer, fmax=0.01, max_steps=steps, budget=Budget(max_structures=together))
    relaxation = Relaxation(Source(), potential, settings, keep)
    while not relaxation.done:
        relaxation.advance()
    return frames


@pytest.mark.parametrize("optimizer", [LBFGS(), LBFGS(maxstep=0.2, memory=3, damping=0.8, alpha=20.0)])
def test_each_structure_of_a_batch_goes_the_way_of_the_hosts_optimiser_alone(optimizer: LBFGS) -> None:
    structures = [atoms for atoms in scattered(7) if len(atoms) > 0]
    found = our_trajectories(structures, Wells(), optimizer, 60, together=3)
    for index, atoms in enumerate(structures):
        expected = host_trajectory(atoms, Wells(), optimizer, 60)
        assert len(found[index]) == len(expected), index
        assert len(expected) > 3
        for one, other in zip(found[index], expected, strict=True):
            assert np.abs(one - other).max() < 2e-6, index


def test_slabs_under_emt_go_the_hosts_way() -> None:
    structures = rough_slabs(3)
    found = our_trajectories(structures, emt(), LBFGS(), 60, together=2)
    for index, atoms in enumerate(structures):
        expected = host_trajectory(atoms, emt(), LBFGS(), 60)
        assert len(found[index]) == len(expected), index
        deviations = [np.abs(one - other).max() for one, other in zip(found[index], expected, strict=True)]
        # float32 positions are rounded each step, and the way to a minimum amplifies that a little
        assert max(deviations) < 2e-4, index


def test_minima_are_ases() -> None:
    structures = rough_slabs(4)
    relaxation = Relaxation(
        AtomsOf(structures), emt(), Settings(fmax=0.001, max_steps=300, budget=Budget(max_structures=2))
    )
    found = {}
    while not relaxation.done:
        found |= {one.index: one for one in relaxation.advance()}
    for index, atoms in enumerate(structures):
        minimum = atoms.copy()
        minimum.calc = EMT()
        AseLBFGS(minimum, logfile=None).run(fmax=0.001, steps=300)
        assert found[index].converged
        assert found[index].energy == pytest.approx(minimum.get_potential_energy(), abs=1e-5)
        assert np.abs(found[index].positions - minimum.positions).max() < 5e-3


class AtomsOf:
    """Structures in float64."""

    def __init__(self, structures: list[Atoms]) -> None:
        self.structures, self.ids = structures, IDS[: len(structures)]

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Structures:
        return from_atoms([self.structures[index]], [self.ids[index]])


def test_a_pair_without_curvature_is_left_out() -> None:
    """Constant forces: the host divides by y·s = 0 here."""
    optimizer, natoms = LBFGS(), torch.tensor([1])
    positions, forces = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), 0.1, dtype=torch.float64)
    memory = optimizer.start(natoms)
    for _ in range(3):
        displacement, memory = optimizer.step(memory, positions, forces, natoms)
        assert torch.allclose(displacement, forces / 70, rtol=1e-4)
        positions = positions + displacement


@pytest.mark.parametrize("setting", ["maxstep", "memory", "damping", "alpha"])
def test_settings_must_be_positive(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"LBFGS: {setting} must be a positive number, got 0"):
        LBFGS(**{setting: type(getattr(LBFGS(), setting))(0)})
