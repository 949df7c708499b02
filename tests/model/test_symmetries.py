"""The whole model: rotation, translation, permutation, batching, supercells."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from ev2_plugin.model.config import ModelConfig
from helpers.equivariance import random_rotation, relative_error
from helpers.models import filled_model, predict
from helpers.structures import (
    GATE,
    TINY,
    assorted,
    atom_batch,
    crystal,
    molecule,
    rotated,
    slab,
    tensors,
    wire,
)

KINDS = {
    "separable grid MLP": TINY,
    "grid MLP": replace(TINY, use_sep_s2_act=False),
    "separable S2": replace(TINY, use_grid_mlp=False),
    "S2, shared radial weights": replace(TINY, use_sep_s2_act=False, use_grid_mlp=False, use_m_share_rad=True),
    "gate, layer norm": replace(GATE, norm_type="layer_norm"),
    "gate, RMS norm": replace(GATE, norm_type="rms_norm_sh", share_atom_edge_embedding=True),
}
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def loose(config: ModelConfig) -> ModelConfig:
    """Ties are kept: a strict limit cuts through the images at +n and -n of a crystal, as rounding has it."""
    return replace(config, enforce_max_neighbors_strictly=False)


def rotation_error(config: ModelConfig, atoms: Atoms) -> tuple[float, float]:
    model, rotation = filled_model(config), random_rotation(1)
    energy, forces = predict(model, atom_batch(atoms, config))
    turned_energy, turned_forces = predict(model, atom_batch(rotated(atoms, rotation), config))
    return relative_error(turned_energy, energy), relative_error(turned_forces, forces @ rotation.T)


@pytest.mark.parametrize("atoms", [slab(), crystal(), molecule(), wire()])
@pytest.mark.parametrize("norm_type", ["layer_norm", "layer_norm_sh", "rms_norm_sh"])
def test_rotation_is_exact_without_grids(norm_type: str, atoms: Atoms) -> None:
    assert max(rotation_error(loose(replace(GATE, norm_type=norm_type)), atoms)) < 1e-10


@pytest.mark.parametrize("name", ["separable grid MLP", "grid MLP", "separable S2", "S2, shared radial weights"])
def test_rotation_error_falls_as_the_grid_is_refined(name: str) -> None:
    errors = np.array(
        [rotation_error(replace(KINDS[name], grid_resolution=resolution), slab()) for resolution in (8, 16, 32, 64)]
    )
    assert (errors[1:] < errors[:-1]).all(), errors
    assert (errors[-1] < 1e-3 * errors[0]).all(), errors


@each_kind
@pytest.mark.parametrize("atoms", [slab(), crystal(), molecule()])
def test_translation(config: ModelConfig, atoms: Atoms) -> None:
    moved, config = atoms.copy(), loose(config)
    moved.translate([3.3, -17.0, 0.4])
    model = filled_model(config)
    for ours, expected in zip(
        predict(model, atom_batch(moved, config)), predict(model, atom_batch(atoms, config)), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@each_kind
def test_moving_atoms_by_lattice_vectors(config: ModelConfig) -> None:
    atoms, moved, model = slab(), slab(), filled_model(config)
    moved.positions[2] += 2 * moved.cell[0] - moved.cell[1]
    for ours, expected in zip(
        predict(model, atom_batch(moved, config)), predict(model, atom_batch(atoms, config)), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@each_kind
def test_permutation(config: ModelConfig) -> None:
    atoms, model = slab(), filled_model(config)
    order = np.random.default_rng(0).permutation(len(atoms))
    energy, forces = predict(model, atom_batch(atoms, config))
    permuted_energy, permuted_forces = predict(model, atom_batch(atoms[order], config))
    torch.testing.assert_close(permuted_energy, energy, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(permuted_forces, forces[order], atol=1e-10, rtol=1e-10)


@each_kind
def test_batch_is_its_structures(config: ModelConfig, dtype: torch.dtype) -> None:
    model, structures = filled_model(config, dtype), assorted()
    energy, forces = predict(model, atom_batch(structures, config, dtype))
    singles = [predict(model, atom_batch(atoms, config, dtype)) for atoms in structures]
    expected = [torch.cat(parts) for parts in zip(*singles, strict=True)]
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for ours, single in zip((energy, forces), expected, strict=True):
        assert ours.dtype == dtype
        scale = float(single.abs().max())
        torch.testing.assert_close(ours, single, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 1)])
@each_kind
def test_supercell(config: ModelConfig, repeats: tuple[int, int, int]) -> None:
    config = replace(config, max_neighbors=100)
    model, atoms = filled_model(config), slab()
    energy, forces = predict(model, atom_batch(atoms, config))
    super_energy, super_forces = predict(model, atom_batch(atoms.repeat(repeats), config))
    torch.testing.assert_close(super_energy, 2 * energy, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(super_forces, forces.repeat(2, 1), atol=1e-10, rtol=1e-10)


@each_kind
def test_repeatable_bit_for_bit(config: ModelConfig, dtype: torch.dtype) -> None:
    model, atoms = filled_model(config, dtype), atom_batch(assorted(), config, dtype)
    again = filled_model(config, dtype)
    for a, b, c in zip(predict(model, atoms), predict(model, atoms), predict(again, atoms), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def random_gauge(number: int, seed: int) -> Tensor:
    return 6.3 * torch.rand(number, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_gauge_is_repeatable_and_differs_only_by_the_grid_error() -> None:
    errors = []
    for resolution in (8, 16, 32):
        config = replace(TINY, grid_resolution=resolution)
        model, atoms = filled_model(config), atom_batch(slab(), config)
        gauge = random_gauge(len(atoms.graph.senders), seed=0)
        forces = [predict(model, atoms, angle)[1] for angle in (None, gauge, gauge.clone())]
        assert torch.equal(forces[1], forces[2])
        errors.append(relative_error(forces[1], forces[0]))
    assert errors[0] > 5 * errors[1] > 25 * errors[2] > 0


def test_gauge_does_not_matter_without_grids() -> None:
    model, atoms = filled_model(GATE), atom_batch(slab(), GATE)
    gauge = random_gauge(len(atoms.graph.senders), seed=0)
    for plain, turned in zip(predict(model, atoms), predict(model, atoms, gauge), strict=True):
        assert relative_error(turned, plain) < 1e-10


@each_kind
def test_reflection_is_not_claimed(config: ModelConfig) -> None:
    """SO(2) weights have imaginary parts, so mirror images may differ; they would not in an O(3) model."""
    atoms, mirrored = molecule(), molecule()
    mirrored.positions[:, 0] *= -1
    model = filled_model(config)
    energies = [predict(model, atom_batch(each, config))[0] for each in (atoms, mirrored)]
    assert relative_error(*energies) > 1e-6


def test_inputs_are_left_alone() -> None:
    inputs = tensors(assorted())
    before = [tensor.clone() for tensor in inputs]
    atoms = atom_batch(assorted())
    parts = [atoms.atomic_numbers, atoms.natoms, atoms.graph.senders, atoms.graph.receivers, atoms.graph.vectors]
    copies = [part.clone() for part in parts]
    predict(filled_model(TINY).train(), atoms)[1].sum().backward()
    assert all(torch.equal(a, b) for a, b in zip([*inputs, *parts], [*before, *copies], strict=True))
