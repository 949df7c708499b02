"""Rotations of inputs, outputs and whatever lies between, by e3nn's matrices rather than ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ase import Atoms
from e3nn import o3
from torch import Tensor, nn

from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.nn.atom_share import ALL_ATOMS
from ev2_plugin.nn.edge_context import EdgeContext
from ev2_plugin.so3.edge_frame import edge_frames
from ev2_plugin.so3.layout import CoefficientLayout
from helpers.structures import atom_batch, rotated


def random_rotation(seed: int = 0) -> Tensor:
    """A proper rotation in float64."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return q * torch.linalg.det(q)


@functools.cache
def _sphere_points(lmax: int) -> tuple[Tensor, Tensor]:
    points = torch.randn(3 * (lmax + 1) ** 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return points, torch.linalg.pinv(_harmonics(points, lmax))


def _harmonics(points: Tensor, lmax: int) -> Tensor:
    return o3.spherical_harmonics(list(range(lmax + 1)), points, normalize=True, normalization="integral")


def wigner(rotation: Tensor, lmax: int) -> Tensor:
    """Block-diagonal matrix of degrees 0..lmax that turns e3nn's spherical harmonics, [coefficients, coefficients]."""
    points, inverse = _sphere_points(lmax)
    return (inverse @ _harmonics(points @ rotation.T, lmax)).T


@contextmanager
def float64_by_default() -> Iterator[None]:
    """For the parts of e3nn that compute in the default dtype whatever their inputs are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def edge_context(
    atoms: AtomBatch, layout: CoefficientLayout, num_inputs: int, gauge: Tensor | None = None
) -> EdgeContext:
    """Edges with a few smooth functions of the distance as edge scalars."""
    graph = atoms.graph
    powers = torch.arange(1, num_inputs + 1, dtype=graph.vectors.dtype)
    scalars = torch.cos(graph.distances.unsqueeze(-1) * powers / 3)
    numbers = atoms.atomic_numbers
    frames = edge_frames(graph.vectors, layout, gauge)
    ends = numbers[graph.senders], numbers[graph.receivers]
    return EdgeContext(graph, frames, scalars, *ends, max_edges=10**6, share=ALL_ATOMS)


def context_pair(atoms: Atoms, rotation: Tensor, layout: CoefficientLayout, num_inputs: int) -> list[EdgeContext]:
    """Edge contexts of a structure and of the same structure turned."""
    return [edge_context(atom_batch(each), layout, num_inputs) for each in (atoms, rotated(atoms, rotation))]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation over the largest value."""
    return float((actual - expected).abs().max() / expected.abs().max())


def randomize(module: nn.Module, scale: float = 0.5, seed: int = 0) -> nn.Module:
    """Shift every parameter at random, so that no bias is 0 and no norm's scale is 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            spread = max(0.2, float(parameter.std(correction=0))) if parameter.numel() else 0.0
            parameter.add_(scale * spread * noise.to(parameter.dtype))
    return module
