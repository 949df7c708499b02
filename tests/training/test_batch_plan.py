from typing import Any

import pytest

from ev2_plugin.training.batch_plan import BatchPlan, check_global_batch_size, plan_batches


@pytest.mark.parametrize(
    ("optim", "ranks", "plan"),
    [
        ({"batch_size": 4, "global_batch_size": 64}, 16, BatchPlan(16, 4, 1)),
        ({"batch_size": 4, "global_batch_size": 64}, 1, BatchPlan(1, 4, 16)),
        ({"batch_size": 4, "global_batch_size": 64, "grad_accumulation_steps": 2}, 8, BatchPlan(8, 4, 2)),
        ({"batch_size": 4, "grad_accumulation_steps": 3}, 2, BatchPlan(2, 4, 3)),
        ({"batch_size": 4}, 2, BatchPlan(2, 4, 1)),
    ],
)
def test_what_processes_lack_is_accumulated(optim: dict[str, Any], ranks: int, plan: BatchPlan) -> None:
    assert plan_batches(optim, ranks) == plan
    check_global_batch_size(plan, optim.get("global_batch_size"))


@pytest.mark.parametrize(
    ("optim", "ranks", "advice"),
    [
        ({"batch_size": 5, "global_batch_size": 64}, 2, "batch_size one of 1, 2, 4, 8, 16, 32"),
        ({"batch_size": 4, "global_batch_size": 64}, 3, "number of processes that divides 64"),
        ({"batch_size": 4, "global_batch_size": 64}, 32, "batch_size one of 1, 2 "),
        ({"batch_size": 4, "global_batch_size": 64, "grad_accumulation_steps": 3}, 4, r"4 x 4 x 3 .* = 48 structures"),
    ],
)
def test_a_global_batch_size_out_of_reach_is_refused(optim: dict[str, Any], ranks: int, advice: str) -> None:
    plan = plan_batches(optim, ranks)
    with pytest.raises(ValueError, match=f"global_batch_size is 64.*{advice}"):
        check_global_batch_size(plan, optim["global_batch_size"])


@pytest.mark.parametrize("name", ["batch_size", "global_batch_size", "grad_accumulation_steps"])
@pytest.mark.parametrize("size", [0, -4, 2.0, "4", True])
def test_sizes_are_positive_integers(name: str, size: Any) -> None:
    with pytest.raises(ValueError, match=rf"optim\.{name} must be a positive integer, got {size!r}"):
        plan_batches({"batch_size": 4, name: size}, 1)
