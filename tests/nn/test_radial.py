import math
from dataclasses import replace

import pytest
import torch

from ev2_plugin.nn.radial import GaussianBasis, LearnableGaussianBasis, RadialFunction, element_table
from ev2_plugin.ops.backend import operations
from helpers.equivariance import edge_context, randomize
from helpers.structures import TINY, atom_batch, slab

DISTANCES = torch.tensor([0.0, 0.7, 3.0, 11.9, 12.0], dtype=torch.float64)


def test_fixed_gaussians() -> None:
    out = GaussianBasis(600, 12.0)(DISTANCES)
    spacing = 12 / 599
    for i, distance in enumerate(DISTANCES.tolist()):
        for k in (0, 35, 150, 599):
            expected = math.exp(-0.5 * ((distance - k * spacing) / (2 * spacing)) ** 2)
            assert out[i, k].item() == pytest.approx(expected, rel=1e-9)


def test_fixed_gaussians_have_nothing_to_save() -> None:
    assert not GaussianBasis(10, 5.0).state_dict()


def test_learnable_gaussians() -> None:
    basis = randomize(LearnableGaussianBasis(7, 5.0).double())
    out = basis(DISTANCES)
    x = basis.weight * DISTANCES[:, None] / 5 + basis.bias
    std = basis.std.abs() + 1e-5
    expected = torch.exp(-((x - basis.mean) ** 2) / (2 * std**2)) / (math.sqrt(2 * 3.14159) * std)
    torch.testing.assert_close(out, expected)
    assert all(gradient is not None for gradient in torch.autograd.grad(out.sum(), basis.parameters()))


def test_learnable_gaussians_start_spread_over_the_cutoff() -> None:
    basis = LearnableGaussianBasis(1000, 5.0)
    assert 0 <= basis.mean.min() < 0.01 < 0.99 < basis.mean.max() <= 1
    assert 1 / 1000 <= basis.std.min() < 0.01 < 0.99 < basis.std.max() <= 1
    assert basis.weight.item() == 1
    assert basis.bias.item() == 0


def test_radial_function_is_its_layers_on_the_concatenation() -> None:
    spec = TINY.edge_scalars
    edges = edge_context(atom_batch(slab()), TINY.layout, spec.num_inputs)
    tables = [randomize(element_table(spec).double(), seed=seed) for seed in (1, 2)]
    function = randomize(RadialFunction(spec, 11, operations("auto")).double())
    concatenated = torch.cat(
        (edges.scalars, tables[0](edges.sender_elements), tables[1](edges.receiver_elements)), dim=1
    )
    torch.testing.assert_close(function(edges, *tables), function.net(concatenated))


def test_radial_function_without_element_tables() -> None:
    spec = replace(TINY, use_atom_edge_embedding=False).edge_scalars
    edges = edge_context(atom_batch(slab()), TINY.layout, spec.num_inputs)
    function = randomize(RadialFunction(spec, 11, operations("auto")).double())
    assert element_table(spec) is None
    torch.testing.assert_close(function(edges, None, None), function.net(edges.scalars))
