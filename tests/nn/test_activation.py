import torch
from torch.nn import functional as F

from ev2_plugin.nn.activation import SphereActivation, num_gates
from ev2_plugin.ops.backend import operations
from ev2_plugin.so3.layout import CoefficientLayout
from ev2_plugin.so3.sphere_grid import SphereGrid

GRID = SphereGrid(CoefficientLayout(2, 1), 8)
OPS = operations("auto")


def test_numbers_of_gates() -> None:
    assert [num_gates(kind, 6, 64) for kind in ("gate", "s2", "separable_s2")] == [6 * 64, 0, 64]


def test_gate_multiplies_each_degree_of_order_major_rows() -> None:
    x, gates = torch.randn(3, 7, 4).double(), torch.randn(3, 8).double()
    out = SphereActivation("gate", GRID, OPS)(x, gates)
    for row, degree in enumerate(GRID.layout.kept_degrees):
        gate = gates[:, 4 * (degree - 1) : 4 * degree].sigmoid()
        torch.testing.assert_close(out[:, row], F.silu(x[:, 0]) if degree == 0 else x[:, row] * gate)


def test_separable_takes_scalars_from_the_gates_and_the_rest_from_the_sphere() -> None:
    x, gates = torch.randn(3, 7, 4).double(), torch.randn(3, 4).double()
    separable = SphereActivation("separable_s2", GRID, OPS)(x, gates)
    plain = SphereActivation("s2", GRID, OPS)(x, gates[:, :0])
    torch.testing.assert_close(separable[:, 0], F.silu(gates))
    torch.testing.assert_close(separable[:, 1:], plain[:, 1:])
    assert not torch.allclose(separable[:, 0], plain[:, 0])


def test_sphere_activation_at_the_points() -> None:
    x = torch.randn(3, 7, 4).double()
    to_grid, from_grid = GRID.matrices(torch.float64, x.device)
    out = SphereActivation("s2", GRID, OPS)(x, x[:, 0, :0])
    torch.testing.assert_close(out, torch.einsum("cp,rpk->rck", from_grid, F.silu(to_grid @ x)))


def test_repr_shows_kind_and_grid() -> None:
    assert "separable_s2, grid=8x8" in repr(SphereActivation("separable_s2", GRID, OPS))
