import torch

from ev2_plugin.nn.linear import EquivariantLinear
from ev2_plugin.ops.backend import operations
from helpers.equivariance import randomize

OPS = operations("auto")


def test_one_matrix_per_degree_and_a_bias_on_degree_zero() -> None:
    layer = randomize(EquivariantLinear(4, 3, 2, OPS).double())
    x = torch.randn(5, 9, 4, dtype=torch.float64)
    expected = torch.cat([part @ w.T for part, w in zip(x.split([1, 3, 5], dim=1), layer.weight, strict=True)], dim=1)
    expected[:, 0] += layer.bias
    torch.testing.assert_close(layer(x), expected)


def test_scalars_and_vectors_are_parts_of_the_whole() -> None:
    layer = randomize(EquivariantLinear(4, 3, 2, OPS).double())
    x = torch.randn(5, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(layer.scalars(x[:, 0]), layer(x)[:, 0])
    torch.testing.assert_close(layer.vectors(x[:, 1:4]), layer(x)[:, 1:4])


def test_degree_zero_alone() -> None:
    layer = randomize(EquivariantLinear(4, 3, 0, OPS).double())
    x = torch.randn(5, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight[0], layer.bias))


def test_repr_shows_the_sizes() -> None:
    assert repr(EquivariantLinear(4, 3, 2, OPS)) == "EquivariantLinear(in_channels=4, out_channels=3, lmax=2)"
