import pytest
import torch

from ev2_plugin.nn.stochastic_depth import EquivariantDropout, GraphStochasticDepth

BATCH = torch.arange(400).repeat_interleave(torch.arange(400) % 4 + 1)


def test_whole_structures_are_dropped_and_the_rest_scaled_up() -> None:
    x = torch.randn(len(BATCH), 4, 3)
    factor = (GraphStochasticDepth(0.25)(x, BATCH, 400) / x).flatten(1)
    assert set(factor.flatten().double().round(decimals=4).tolist()) == {0.0, 1.3333}
    for structure in range(400):
        assert len(factor[structure == BATCH].round(decimals=4).unique()) == 1


def test_expectation_is_the_input() -> None:
    x = torch.ones(20_000, 1, 1)
    out = GraphStochasticDepth(0.3)(x, torch.arange(20_000), 20_000)
    assert (out == 0).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert out.mean().item() == pytest.approx(1, abs=0.02)


def test_structures_without_atoms_count_too() -> None:
    out = GraphStochasticDepth(0.5)(torch.ones(2, 1, 1), torch.tensor([3, 3]), 5)
    assert out.shape == (2, 1, 1)


@pytest.mark.parametrize("module", [GraphStochasticDepth(0.9), EquivariantDropout(0.9)])
def test_nothing_is_dropped_outside_training(module: torch.nn.Module) -> None:
    x = torch.randn(len(BATCH), 4, 3)
    arguments = (x, BATCH, 400) if isinstance(module, GraphStochasticDepth) else (x,)
    assert torch.equal(module.eval()(*arguments), x)
    assert not torch.equal(module.train()(*arguments), x)


def test_channels_are_dropped_with_all_their_coefficients() -> None:
    x = torch.randn(5000, 4, 3)
    factor = EquivariantDropout(0.4)(x) / x
    assert torch.allclose(factor, factor[:, :1])
    assert (factor == 0).double().mean().item() == pytest.approx(0.4, abs=0.02)
    assert factor.mean().item() == pytest.approx(1, abs=0.03)


def test_dtype_is_kept(dtype: torch.dtype) -> None:
    x = torch.ones(3, 4, 2, dtype=dtype)
    assert GraphStochasticDepth(0.5)(x, torch.arange(3), 3).dtype == dtype
    assert EquivariantDropout(0.5)(x).dtype == dtype


def test_reprs_show_the_rate() -> None:
    assert "rate=0.1" in repr(GraphStochasticDepth(0.1))
    assert "rate=0.2" in repr(EquivariantDropout(0.2))
