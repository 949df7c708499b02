"""Processes that share batches, and those that have their own."""

import re

import pytest

from ev2_plugin.integration import launcher
from ev2_plugin.integration.check.optim import planned_batches
from ev2_plugin.integration.rank_groups import data_rank, data_ranks, ranks_per_batch, shares_batches


def test_a_process_alone() -> None:
    assert (data_rank(), data_ranks(), shares_batches()) == (0, 1, False)


@pytest.mark.parametrize(("gp_gpus", "ranks", "size"), [(None, 3, 1), (1, 3, 1), (2, 4, 2), (4, 4, 4)])
def test_group_size(gp_gpus: int | None, ranks: int, size: int) -> None:
    assert ranks_per_batch(gp_gpus, ranks) == size


@pytest.mark.parametrize(("gp_gpus", "ranks"), [(2, 1), (3, 4), (0, 2), (-1, 2), (8, 4)])
def test_processes_that_make_no_groups(gp_gpus: int, ranks: int) -> None:
    with pytest.raises(ValueError, match=f"--gp-gpus {gp_gpus}: {ranks} processes .* do not make groups"):
        ranks_per_batch(gp_gpus, ranks)


def test_a_group_has_one_batch() -> None:
    config = {
        "trainer": "ev2_plugin.Trainer",
        "world_size": 8,
        "gp_gpus": 2,
        "optim": {"batch_size": 3, "global_batch_size": 24},
    }
    assert str(planned_batches(config)).startswith("4 x 3 x 2")


@pytest.mark.parametrize("mode", ["train", "predict"])
def test_the_launcher_refuses_such_processes_before_it_starts_them(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"mode": mode, "checkpoint": __file__, "gp_gpus": 3, "world_size": 2}
    monkeypatch.setattr(launcher, "build_run_config", lambda args, overrides: config)
    with pytest.raises(ValueError, match=re.escape("--gp-gpus 3: 2 processes")):
        launcher.main(["--mode", mode, "--config-yml", "run.yml", "--num-gpus", "2", "--gp-gpus", "3"])
