"""Live storages of computations small enough to count by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ev2_plugin.model.memory_trace import MemoryProfile, StorageTrace, unit_at_least

KB = 4000
"""Bytes of a thousand float32 numbers."""


def test_a_chain_holds_two_at_a_time() -> None:
    with StorageTrace() as trace:
        x = torch.ones(1000)
        for _ in range(5):
            x = x.exp()
        assert trace.live == KB
        pair = x, torch.cat((x, x))
    assert trace.peak == 3 * KB
    del x, pair
    assert trace.live == 0


def test_what_autograd_saves_lives_until_the_backward_pass() -> None:
    x = torch.ones(1000, requires_grad=True)
    with StorageTrace((x,)) as trace:
        loss = x.exp().exp().sum()  # both results are saved
        assert trace.live == 2 * KB + 4
        loss.backward()
        del loss
        assert trace.live == KB  # the gradient
    assert trace.peak == pytest.approx(3 * KB, abs=16)


def test_views_and_work_in_place_take_nothing() -> None:
    with StorageTrace() as trace:
        x = torch.ones(1000)
        y = x.view(10, 100).T[3:, ::2].unsqueeze(0)
        y.mul_(2).exp_()
        x.add_(1)
    assert trace.peak == trace.live == KB
    del x
    assert trace.live == KB  # the view keeps it
    del y
    assert trace.live == 0


def test_held_tensors_do_not_count_nor_do_their_views() -> None:
    layer = nn.Linear(30, 20)
    with StorageTrace(layer.parameters()) as trace, torch.no_grad():
        out = layer(torch.ones(5, 30))
        transposed = layer.weight.T
    assert trace.peak == 5 * (30 + 20) * 4
    assert trace.live == out.untyped_storage().nbytes() == 5 * 20 * 4
    assert transposed.shape == (30, 20)


@torch.library.custom_op("ev2_test::with_workspace", mutates_args=())
def with_workspace(x: Tensor) -> Tensor:
    workspace = x.new_zeros(3, *x.shape)
    workspace += x
    return workspace.sum(dim=0)


@with_workspace.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_custom_operations_are_followed_inside() -> None:
    x = torch.ones(1000)
    with StorageTrace((x,)) as trace:
        out = with_workspace(x)
    assert trace.peak == 4 * KB
    assert trace.live == KB
    torch.testing.assert_close(out, 3 * x)


def steps(atoms: int, edges: int) -> None:
    """Two moments: the first with most per atom, the second with most per edge; constants in both."""
    constant = torch.zeros(50)
    nodes = torch.zeros(atoms, 30)
    more = nodes.unsqueeze(2).expand(-1, -1, 4).clone()
    del more
    at_edges = torch.zeros(edges, 10, dtype=torch.float64)
    del constant, at_edges


def test_growth_is_read_from_sizes_and_serves_all_others() -> None:
    with StorageTrace(units=(101, 211)) as trace:
        steps(101, 211)
    assert trace.profile.at_peak(1000, 1) == (200, 600, 0)
    assert trace.profile.at_peak(1, 1000) == (200, 120, 80)
    for atoms, edges in ((1000, 10), (10, 1000), (64, 64), (3, 0)):
        with StorageTrace() as other:
            steps(atoms, edges)
        assert trace.profile.peak(atoms, edges) == other.peak


def test_more_that_lives_all_the_time_or_for_a_moment() -> None:
    profile = MemoryProfile(np.array([[0.0, 10.0, 0.0]])).plus(100, 50)
    assert profile.peak(1, 0) == 150
    assert profile.peak(10, 0) == 200


@pytest.mark.parametrize("memory", [100, 1000, 12345])
def test_one_more_than_the_largest_batch_does_not_fit(memory: int) -> None:
    profile = MemoryProfile(np.array([[10.0, 1.0, 0.1], [0.0, 1.0, 0.7], [90.0, 0.0, 0.0]]))
    found = profile.largest_multiple(memory, 3.0, 20.0)
    assert profile.peak(3 * found, 20 * found) <= memory < profile.peak(3 * (found + 1), 20 * (found + 1))


def test_nothing_fits_where_constants_do_not() -> None:
    assert MemoryProfile(np.array([[1.0, 1.0, 1.0], [90.0, 0.0, 0.0]])).largest_multiple(80, 1.0, 1.0) == 0


def test_units_divide_nothing_else() -> None:
    module = nn.Linear(101, 2 * 103)
    atoms = unit_at_least(100, module)
    assert atoms == 107
    assert unit_at_least(100, module, atoms) == 109
