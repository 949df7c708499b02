"""Ranks with batches of their own end with the weights of one rank that takes the same global batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from helpers.rank_training import STEPS, Trained, Training, mean_losses, on_ranks, train_all, training, write_mixed_set

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]

TOLERANCE = 1e-12
"""Of losses, weights and averages after 20 steps in float64: sums have another order, nothing else."""
TOLERANCE_OF_METRICS = 1e-6
"""The host adds them up in float32."""
SGD = {"optimizer": "SGD", "optimizer_params": {"momentum": 0.9}, "lr_initial": 1e-3}
KINDS: dict[str, dict[str, Any]] = {
    "SGD": SGD,
    "AdamW, averaged weights": {"ema_decay": 0.9},
    "accumulated": {"grad_accumulation_steps": 2, "epochs": 8},
    "balanced by atoms": {"load_balancing": "atoms"},
    "frozen embedding": {"freeze": "embedding"},
}


SHARED = ["SGD", "balanced by atoms"]
"""Kinds that are trained by groups of two ranks too."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Sets by their number of structures."""
    return {number: write_mixed_set(tmp_path_factory.mktemp("data") / str(number), number) for number in (18, 20, 21)}


def trainings(data: Mapping[int, dict[str, Any]], processes: int) -> dict[str, Training]:
    return {name: training(data[20], processes, **kind) for name, kind in KINDS.items()} | {
        "uneven last batch": training(data[18], processes)
    }


@pytest.fixture(scope="module")
def of_one_rank(data: Mapping[int, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    return train_all(trainings(data, 1), tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=[2, 4])
def of_ranks(
    request: pytest.FixtureRequest, data: Mapping[int, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Trained]]:
    dropping = {"alpha_drop": 0.2, "drop_path_rate": 0.2, "proj_drop": 0.1}
    planned = trainings(data, request.param) | {
        **{f"shared, {kind}": training(data[20], request.param, group=2, **KINDS[kind]) for kind in SHARED},
        "shared, dropout": training(data[20], request.param, group=2, model=dropping, epochs=1),
        "repeated structures": training(data[21], request.param),
        "dropout": training(data[20], request.param, model=dropping, epochs=1),
    }
    return on_ranks(request.param, planned, tmp_path_factory.mktemp("ranks"))


def largest_deviation(ours: Sequence[Trained], expected: Trained) -> float:
    """Of losses, weights and averages, relative to 1 or to the largest of their kind."""
    pairs = [(torch.tensor(mean_losses(ours), dtype=torch.float64), torch.tensor(expected.losses, dtype=torch.float64))]
    for one in ours:
        assert list(one.weights) == list(expected.weights)
        pairs += [(one.weights[name], value) for name, value in expected.weights.items()]
        pairs += list(zip(one.averages, expected.averages, strict=True))
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)


def assert_equal(kind: str, ours: Sequence[Trained], expected: Trained) -> None:
    deviation = largest_deviation(ours, expected)
    print(f"{kind}, {len(ours)} ranks: largest deviation {deviation:.1e}")
    assert deviation < TOLERANCE
    for one in ours:
        assert one.metrics == pytest.approx(expected.metrics, rel=TOLERANCE_OF_METRICS)


@pytest.mark.parametrize("kind", [*KINDS, "uneven last batch"])
def test_losses_and_weights_are_those_of_one_rank(
    kind: str, of_ranks: dict[str, list[Trained]], of_one_rank: dict[str, Trained]
) -> None:
    if kind == "uneven last batch" and len(of_ranks[kind]) == 4:
        pytest.skip("18 structures are filled up to 20 for 4 ranks: two count twice (test_all_structures_are_seen)")
    assert len(of_one_rank[kind].losses) >= STEPS
    assert_equal(kind, of_ranks[kind], of_one_rank[kind])


@pytest.mark.parametrize("kind", SHARED)
def test_ranks_that_share_batches_train_as_one(
    kind: str, of_ranks: dict[str, list[Trained]], of_one_rank: dict[str, Trained]
) -> None:
    ours = of_ranks[f"shared, {kind}"]
    assert_equal(f"shared, {kind}", ours, of_one_rank[kind])
    for first, second in zip(ours[::2], ours[1::2], strict=True):
        assert first.samples == second.samples
        assert first.losses == second.losses


def test_training_moves_the_weights(of_one_rank: dict[str, Trained]) -> None:
    """Otherwise nothing above would mean much."""
    sgd, adam = of_one_rank["SGD"].weights, of_one_rank["balanced by atoms"].weights
    assert max(float((sgd[name] - value).abs().max()) for name, value in adam.items()) > 1e-3


def test_weights_and_averages_are_equal_on_all_ranks_to_the_bit(of_ranks: dict[str, list[Trained]]) -> None:
    for first, *others in of_ranks.values():
        for other in others:
            assert all(torch.equal(other.weights[name], value) for name, value in first.weights.items())
            assert len(other.averages) == len(first.averages) > 0
            assert all(torch.equal(a, b) for a, b in zip(other.averages, first.averages, strict=True))


def test_a_rank_with_an_edge_free_batch_was_among_them(of_ranks: dict[str, list[Trained]]) -> None:
    for kind in KINDS:
        assert any(one.edge_free for one in of_ranks[kind])


def test_all_structures_are_seen(of_ranks: dict[str, list[Trained]]) -> None:
    for kind, number in (("repeated structures", 21), ("uneven last batch", 18), ("balanced by atoms", 20)):
        per_epoch = len(of_ranks[kind][0].samples) // 4
        for epoch in range(4):
            batches = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            seen = {sid for one in of_ranks[kind] for samples in one.samples[batches] for sid in samples}
            assert seen == set(range(number)), (kind, epoch)


def test_ranks_get_unequal_numbers_of_structures_when_atoms_are_balanced(of_ranks: dict[str, list[Trained]]) -> None:
    ours = of_ranks["balanced by atoms"]
    steps = zip(*(one.samples for one in ours), strict=True)
    unequal = any(len({len(samples) for samples in step}) > 1 for step in steps)
    assert unequal == (len(ours) == 2)  # four ranks have one structure each


def test_ranks_draw_different_masks(of_ranks: dict[str, list[Trained]]) -> None:
    for kind in ("dropout", "shared, dropout"):
        ours = of_ranks[kind]
        assert len({one.drawn for one in ours}) == len(ours)
        assert all(torch.tensor(one.losses).isfinite().all() for one in ours)
