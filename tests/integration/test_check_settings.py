"""What a config alone shows, and that a launch is refused for it."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from ev2_plugin.integration.check.settings import check_settings
from ev2_plugin.integration.launcher import main
from helpers.tiny_s2ef import FLAT_MODEL, config, write_config

TRAINERS = ("ocp", "energy", "equiformerv2_forces", "ev2_plugin.Trainer")


def settings(trainer: str = "ev2_plugin.Trainer", mode: str = "train", ranks: int = 1) -> dict[str, Any]:
    content = copy.deepcopy(config({"format": "lmdb", "src": "data"}, FLAT_MODEL, trainer))
    return {**content, "mode": mode, "world_size": ranks}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("mode", ["train", "validate", "predict", "run-relaxations"])
def test_good_settings_pass(trainer: str, mode: str) -> None:
    given = settings("ocp" if trainer == "energy" else trainer, mode)
    check_settings({**given, "trainer": trainer})


def test_old_configs_pass() -> None:
    check_settings({"mode": "train", "trainer": "forces", "task": {"metric": "mae"}})


def test_a_key_that_nobody_reads_stops_our_trainer_and_is_told_to_the_hosts(caplog: pytest.LogCaptureFixture) -> None:
    ours, hosts = settings(), settings("equiformerv2_forces")
    for given in (ours, hosts):
        given["optim"]["lr"] = 1e-3
        given["task"]["relaxation_step"] = 3
    with pytest.raises(ValueError, match=r"nothing reads task\.relaxation_step \(did you mean .*; optim\.lr \(did you"):
        check_settings(ours)
    check_settings(hosts)
    assert "nothing reads task.relaxation_step" in caplog.text


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("outputs", ["energy"], "outputs must be a mapping of names to settings"),
        ("loss_functions", {"energy": {"fn": "mae", "coefficient": 1}}, "loss_functions must be a list of .target: "),
        ("loss_functions", [], "loss_functions must be .* with at least one entry, got \\[\\]"),
        ("optim", None, "optim must be a mapping with at least one entry, got None"),
    ],
)
def test_sections_of_another_kind_are_named(section: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings({**settings(), section: value})


def test_a_misspelt_schedule_is_named() -> None:
    given = settings()
    given["optim"]["scheduler_params"]["lambda_type"] = "cosin"
    with pytest.raises(ValueError, match="lambda_type must be cosine, got 'cosin'"):
        check_settings(given)


def test_inert_keys_of_official_files_do_not_stop_a_launch() -> None:
    given = settings()
    given["model"]["num_distance_basis"] = 512
    check_settings(given)


def test_a_launch_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yml", config({"format": "lmdb", "src": "nowhere"}, FLAT_MODEL, "ev2"))
    arguments = ["--mode", "train", "--config-yml", str(path), "--run-dir", str(tmp_path), "--cpu"]
    handlers = list(logging.getLogger().handlers)
    try:
        with pytest.raises(ValueError, match=r"nothing reads optim\.max_epoch \(did you mean 'max_epochs'\?\)"):
            main([*arguments, "--optim.max_epoch=3"])
    finally:
        logging.getLogger().handlers[:] = handlers
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("optim", {"lr_initial": None}, r"optim\.lr_initial is missing"),
        ("optim", {"lr_initial": "1e-4"}, r"optim\.lr_initial must be a number, got '1e-4' \(YAML takes 1e-4 for text"),
        ("optim", {"ema_decay": True}, r"optim\.ema_decay must be a number, got True"),
        (
            "optim",
            {"scheduler_params": {"lambda_type": "cosine"}},
            r"optim\.scheduler_params\.warmup_epochs is missing",
        ),
        (
            "optim",
            {"optimizer_params": {"weight_decay": "1e-3"}},
            r"optim\.optimizer_params\.weight_decay must be a num",
        ),
        ("optim", {"optimizer": "Adamw"}, r"optim\.optimizer: torch\.optim has no 'Adamw'"),
        ("optim", {"scheduler": "Cosine"}, r"optim\.scheduler: torch\.optim\.lr_scheduler has no 'Cosine'"),
        ("optim", {"load_balancing": "neighbors"}, r"optim\.load_balancing must be atoms or false, got 'neighbors'"),
        ("optim", {"global_batch_size": 3}, r"optim\.global_batch_size is 3, but 1 x 2 x 1"),
        ("optim", {"batch_size": 0}, r"optim\.batch_size must be a positive integer, got 0"),
        ("evaluation_metrics", {"primary_metric": None}, r"primary_metric is missing: give one of energy_mae"),
        ("evaluation_metrics", {"primary_metric": "mae"}, r"primary_metric 'mae' is not among the metrics: energy_mae"),
        ("evaluation_metrics", {"metrics": {"energy": ["maee"]}}, r"metrics\.energy: the host has no metric 'maee'"),
        (
            "evaluation_metrics",
            {"metrics": {"enrgy": ["mae"]}},
            r"metrics\.enrgy: no such output; outputs are energy, f",
        ),
        ("outputs", {"forces": {"level": "atoms"}}, r"outputs\.forces\.level must be system or atom, got 'atoms'"),
        ("outputs", {"forces": {"level": "atom"}}, r"outputs\.forces lacks eval_on_free_atoms: true or false"),
    ],
)
def test_what_cannot_go_well(section: str, changes: dict[str, Any], message: str) -> None:
    given = settings()
    given[section].update(changes)
    with pytest.raises(ValueError, match=message):
        check_settings(given)


def test_a_loss_needs_its_output() -> None:
    given = settings()
    del given["outputs"]["forces"]
    with pytest.raises(ValueError, match=r"loss_functions\.forces: no such output; outputs are energy"):
        check_settings(given)


def test_the_hosts_trainers_need_to_be_told_which_atoms_count() -> None:
    given = settings("ocp")
    del given["outputs"]["forces"]["train_on_free_atoms"]
    with pytest.raises(ValueError, match=r"outputs\.forces lacks train_on_free_atoms"):
        check_settings(given)
    check_settings({**given, "trainer": "ev2"})


def test_the_hosts_trainers_do_not_accumulate() -> None:
    given = settings("equiformerv2_forces", ranks=2)
    given["optim"]["global_batch_size"] = 8
    with pytest.raises(ValueError, match=r"optim\.global_batch_size is 8, but 2 x 2 x 1"):
        check_settings(given)
    check_settings({**given, "trainer": "ev2"})


def test_names_of_metrics_are_the_hosts() -> None:
    given = settings("equiformerv2_forces")
    given["evaluation_metrics"] = {
        "metrics": {"misc": ["energy_forces_within_threshold"], "forces": ["forcesx_mae", "mae"], "energy": ["mae"]}
    }
    for primary in ("energy_forces_within_threshold", "forcesx_mae", "forces_mae", "loss"):
        given["evaluation_metrics"]["primary_metric"] = primary
        check_settings(given)
    del given["evaluation_metrics"]["primary_metric"]  # s2ef's own
    check_settings(given)
    del given["evaluation_metrics"]["metrics"]["misc"]
    with pytest.raises(ValueError, match="'energy_forces_within_threshold' is not among the metrics: forcesx_mae"):
        check_settings(given)
