import itertools

import pytest
import torch
from torch import Tensor

from ev2_plugin.training.noisy_nodes import NoisyNodes, corrupt, minimum_image

STRUCTURES, ATOMS = 400, 50
BATCH = torch.arange(STRUCTURES).repeat_interleave(ATOMS)
POSITIONS = torch.randn(STRUCTURES * ATOMS, 3, generator=torch.Generator().manual_seed(1)).double()
MOVABLE = torch.arange(STRUCTURES * ATOMS) % 5 != 0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_and_spread_of_the_noise() -> None:
    settings = NoisyNodes(std=0.02, probability=0.5, corrupt_ratio=0.25)
    result = corrupt(POSITIONS, MOVABLE, BATCH, settings, generator())
    assert not result.moved[~MOVABLE].any()
    assert torch.equal(result.positions[~result.moved], POSITIONS[~result.moved])
    assert torch.equal(result.positions - POSITIONS != 0, result.moved[:, None].expand(-1, 3))
    torch.testing.assert_close(result.positions, POSITIONS + result.noise)

    corrupted = result.moved.view(STRUCTURES, ATOMS).any(dim=1)
    assert abs(corrupted.double().mean() - 0.5) < 0.1  # 4 standard deviations
    inside = result.moved[corrupted[BATCH] & MOVABLE].double().mean()
    assert abs(inside - 0.25) < 0.03
    assert abs(result.noise[result.moved].std() - 0.02) < 0.001
    assert abs(result.noise[result.moved].mean()) < 0.001


def test_interpolation_ends_up_between_initial_and_relaxed() -> None:
    settings = NoisyNodes(std=1e-12, probability=1.0, interpolate=True)
    way = torch.randn(POSITIONS.shape, generator=generator(2)).double()
    result = corrupt(POSITIONS, MOVABLE, BATCH, settings, generator(), way)
    share = ((result.positions - POSITIONS) / way)[result.moved]
    torch.testing.assert_close(share, share[:, :1].expand(-1, 3), atol=1e-4, rtol=0)  # one factor per atom
    assert share.min() > -1e-4
    assert share.max() < 1 + 1e-4
    assert abs(share.mean() - 0.5) < 0.02
    assert torch.equal(result.moved, MOVABLE)


def test_the_seed_decides() -> None:
    settings = NoisyNodes(std=0.3, probability=0.5)
    first, again, other = (corrupt(POSITIONS, MOVABLE, BATCH, settings, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)


def test_interpolation_needs_somewhere_to_go() -> None:
    with pytest.raises(ValueError, match="needs relaxed positions"):
        corrupt(POSITIONS, MOVABLE, BATCH, NoisyNodes(std=0.3, probability=0.5, interpolate=True), generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std": 0.0, "probability": 0.5}, "std must be a positive length"),
        ({"std": 0.1, "probability": 1.5}, r"probability must lie in \(0, 1\], got 1.5"),
        ({"std": 0.1, "probability": 0.5, "corrupt_ratio": 0.0}, "corrupt_ratio must lie"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoisyNodes(**settings)


def nearest_image(displacement: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Brute force over the images around."""
    shifts = torch.tensor(list(itertools.product((-2, -1, 0, 1, 2), repeat=3)), dtype=cell.dtype)
    shifts = shifts[((shifts == 0) | pbc).all(dim=1)]
    candidates = displacement + shifts @ cell
    return candidates[candidates.norm(dim=1).argmin()]


def test_minimum_image_against_brute_force() -> None:
    cells = torch.stack(
        [
            torch.diag(torch.tensor([4.0, 5.0, 20.0])),
            torch.tensor([[4.0, 0, 0], [1.0, 5, 0], [0, 0.5, 6]]),
            torch.zeros(3, 3),
        ]
    ).double()
    pbc = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    batch = torch.arange(3).repeat_interleave(20)
    small = torch.randn(60, 3, generator=generator()).double() * 0.4
    whole = torch.randint(-1, 2, (60, 3), generator=generator()).double() * pbc[batch]
    wrapped = small + torch.einsum("ai,aij->aj", whole, cells[batch])
    result = minimum_image(wrapped, cells, pbc, batch)
    torch.testing.assert_close(result, small)
    for atom in range(60):
        torch.testing.assert_close(result[atom], nearest_image(wrapped[atom], cells[batch[atom]], pbc[batch[atom]]))


def test_autocast_does_not_round_lattice_vectors() -> None:
    cell = torch.tensor([[[10.003, 0, 0], [5.007, 8.669, 0], [0, 0, 31.017]]])
    way = torch.tensor([[0.11, -0.22, 0.33]])
    pbc = torch.ones(1, 3, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = minimum_image(way + cell[0].sum(dim=0), cell, pbc, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(found, way, atol=1e-5, rtol=0)
