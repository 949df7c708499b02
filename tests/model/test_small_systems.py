"""Structures without edges, every size of the irreps, both precisions."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms

from ev2_plugin.model.batch import build_batch
from ev2_plugin.model.config import ModelConfig
from helpers.equivariance import relative_error
from helpers.models import filled_model, predict
from helpers.structures import (
    GATE,
    TINY,
    assorted,
    atom_batch,
    molecule,
    single_atom,
    slab,
    tensors,
    two_far_atoms,
    wire,
)

MINIMAL = replace(
    TINY,
    num_layers=1,
    sphere_channels=2,
    attn_hidden_channels=2,
    attn_value_channels=1,
    ffn_hidden_channels=2,
    edge_channels=2,
    num_radial_basis=3,
    grid_resolution=None,
)
ALL_PAIRS = [(lmax, mmax) for lmax in range(11) for mmax in range(lmax + 1)]


@pytest.mark.parametrize("config", [TINY, GATE, replace(TINY, share_atom_edge_embedding=True, use_m_share_rad=True)])
@pytest.mark.parametrize("atoms", [single_atom(), two_far_atoms()])
def test_structures_without_edges(atoms: Atoms, config: ModelConfig) -> None:
    model = filled_model(config).train()
    energy, forces = predict(model, atom_batch(atoms, config))
    assert torch.isfinite(energy).all()
    assert (forces == 0).all()
    energy.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_energy_of_a_single_atom_depends_on_its_element_only() -> None:
    model = filled_model(TINY)
    here, there, other = single_atom(), Atoms("Fe", positions=[[9, 9, 9]]), Atoms("Co", positions=[[9, 9, 9]])
    energies = [predict(model, atom_batch(atoms))[0] for atoms in (here, there, other)]
    assert torch.equal(energies[0], energies[1])
    assert not torch.allclose(energies[1], energies[2])


@pytest.mark.parametrize(("lmax", "mmax"), ALL_PAIRS)
def test_every_pair_of_degree_and_order(lmax: int, mmax: int) -> None:
    config = replace(MINIMAL, lmax=lmax, mmax=mmax)
    model = filled_model(config, torch.float32, regress_forces=lmax > 0).train()
    out = model.predict(atom_batch([molecule(), wire()], config, torch.float32))
    sum(value.sum() for value in out.values()).backward()
    assert all(torch.isfinite(value).all() for value in out.values())
    with_numbers = {name: parameter for name, parameter in model.named_parameters() if parameter.numel()}
    assert not [name for name, parameter in with_numbers.items() if parameter.grad is None]
    assert all(torch.isfinite(parameter.grad).all() for parameter in with_numbers.values())


@pytest.mark.parametrize("kind", [{}, {"use_gate_act": True, "use_grid_mlp": False}, {"use_sep_s2_act": False}])
def test_scalars_alone(kind: dict[str, bool]) -> None:
    """With lmax 0 nothing depends on directions, so the model is invariant to rounding."""
    config = replace(TINY, lmax=0, mmax=0, **kind)
    model = filled_model(config, regress_forces=False)
    energy = model.predict(atom_batch(slab(), config))["energy"]
    mirrored = slab()
    mirrored.positions[:, 2] *= -1
    mirrored.cell[:, 2] *= -1
    torch.testing.assert_close(model.predict(atom_batch(mirrored, config))["energy"], energy)


def test_forces_need_degree_one() -> None:
    with pytest.raises(ValueError, match="need lmax >= 1, got lmax=0"):
        filled_model(replace(TINY, lmax=0, mmax=0))


@pytest.mark.parametrize("config", [TINY, GATE])
def test_single_precision_follows_double(config: ModelConfig) -> None:
    double = predict(filled_model(config), atom_batch(slab(), config))
    single = predict(filled_model(config, torch.float32), atom_batch(slab(), config, torch.float32))
    for ours, expected in zip(single, double, strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours.double(), expected) < 1e-4


def test_atoms_on_the_poles_of_each_other() -> None:
    """Edges exactly on +y and -y and within rounding of them give nearly the same result."""
    straight, bent = wire(), wire()
    bent.positions[1, 0] += 1e-13
    model = filled_model(replace(TINY, grid_resolution=64))
    results = [predict(model, atom_batch(atoms)) for atoms in (straight, bent)]
    for a, b in zip(*results, strict=True):
        assert torch.isfinite(a).all()
        # the azimuth of the frame jumps, so the results agree up to the grid error
        torch.testing.assert_close(a, b, atol=1e-6 * float(results[0][0].abs().max()), rtol=0)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"use_sep_s2_act": False},
        {"use_grid_mlp": False},
        {"use_grid_mlp": False, "use_sep_s2_act": False},
        {"use_grid_mlp": False, "use_gate_act": True},
        {"backend": "reference"},
    ],
)
def test_autocast_trains_and_stays_close(kind: dict[str, Any]) -> None:
    config = replace(TINY, **kind)
    model, atoms = filled_model(config, torch.float32).train(), atom_batch(slab(), config, torch.float32)
    expected = predict(model, atoms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = predict(model, atoms)
    for ours, reference in zip(results, expected, strict=True):
        assert relative_error(ours.float(), reference) < 0.5  # 8 bits through many layers
    sum(result.float().sum() for result in results).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("config", [TINY, GATE])
def test_gpu_follows_cpu(config: ModelConfig, dtype: torch.dtype) -> None:
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    numbers, *rest = tensors(assorted(), dtype)
    cpu, model = filled_model(config, dtype), filled_model(config, dtype).cuda()
    atoms = build_batch(numbers.cuda(), *(tensor.cuda() for tensor in rest), config)
    first, second = predict(model, atoms), predict(model, atoms)
    for ours, again, expected in zip(first, second, predict(cpu, build_batch(numbers, *rest, config)), strict=True):
        assert torch.equal(ours, again)
        assert relative_error(ours.cpu(), expected) < tolerance
