import math

import pytest
from fairchem.core.modules.scheduler import CosineLRLambda

from ev2_plugin.training.schedule import CosineSchedule, LinearDecay


@pytest.mark.parametrize(("warmup", "total"), [(1, 10), (7, 100), (50, 50)])
def test_cosine_equals_the_hosts(warmup: int, total: int) -> None:
    ours = CosineSchedule(warmup_steps=warmup, total_steps=total, warmup_factor=0.2, min_factor=0.01)
    host = CosineLRLambda(warmup_epochs=warmup, warmup_factor=0.2, epochs=total, lr_min_factor=0.01)
    steps = range(total + 20)
    assert [ours(step) for step in steps] == pytest.approx([host(step) for step in steps], rel=1e-12)


def test_hand_over_of_the_base_recipe() -> None:
    # 12 epochs of 31,250 steps, 0.1 epochs of warm-up: the cosine counts the warm-up and starts at 0.99983
    schedule = CosineSchedule(warmup_steps=3125, total_steps=375_000, warmup_factor=0.2, min_factor=0.01)
    assert schedule(0) == 0.2
    assert schedule(3125) == 1.0
    assert round(schedule(3126), 5) == 0.99983
    assert schedule(375_000) == schedule(10**9) == 0.01


def test_without_warm_up_it_starts_at_the_largest_rate() -> None:
    # the host divides by zero here
    schedule = CosineSchedule(warmup_steps=0, total_steps=4, warmup_factor=0.2, min_factor=0.0)
    expected = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert [schedule(step) for step in range(4)] == pytest.approx(expected)


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and all 10 steps of training, got 11"):
        CosineSchedule(warmup_steps=11, total_steps=10, warmup_factor=0.2, min_factor=0.01)


def test_linear_decay() -> None:
    decay = LinearDecay(start=15.0, end=1.0, total_steps=28)
    assert [decay(step) for step in (0, 14, 28, 99)] == [15.0, 8.0, 1.0, 1.0]
