"""The numbers of a dry run against independent computation."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.data.metadata import count_edges
from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.check.dry_run import dry_run, training_config
from ev2_plugin.integration.check.report import CheckReport
from helpers.rewriting import rewrite
from helpers.tiny_s2ef import FLAT_MODEL, HYDRA_MODEL, NUM_STRUCTURES, config, write_config, write_dataset

NORMALIZER = {"energy": {"mean": 3.7, "rmsd": 0.25}, "forces": {"mean": 0.0, "rmsd": 1.1}}


def check(folder: Path, content: dict[str, Any], *arguments: str, structures: int | None = None) -> CheckReport:
    path = write_config(folder / "run.yml", content)
    return dry_run(training_config(path, ["--cpu", *arguments]), structures)


def content(folder: Path, model: dict[str, Any] = FLAT_MODEL, **optim: Any) -> dict[str, Any]:
    made = config(write_dataset("lmdb", folder / "data"), model, "ev2_plugin.Trainer")
    made["dataset"]["train"]["transforms"] = {"normalizer": NORMALIZER}
    made["optim"].update(optim)
    return made


@pytest.mark.parametrize(("model", "heads"), [(FLAT_MODEL, "_block"), (HYDRA_MODEL, "")], ids=["flat", "hydra"])
def test_numbers(model: dict[str, Any], heads: str, tmp_path: Path) -> None:
    report = check(tmp_path, content(tmp_path, model, max_epochs=3), structures=NUM_STRUCTURES)

    flat = EquiformerV2(**{key: value for key, value in FLAT_MODEL.items() if key != "name"})
    expected = {"energy": 0, "force": 0, "backbone": 0}
    for name, weight in flat.state_dict().items():
        expected[name.split("_block")[0] if "_block." in name else "backbone"] += weight.numel()
    assert report.backbone_parameters == expected["backbone"]
    head_names = ("energy_block", "force_block") if heads else ("energy", "forces")
    assert report.head_parameters == dict(zip(head_names, (expected["energy"], expected["force"]), strict=True))
    assert report.parameters == sum(expected.values())

    samples = report.surveys[0].samples
    edges = sum(count_edges(sample, FLAT_MODEL["max_radius"], FLAT_MODEL["max_neighbors"]) for sample in samples)
    assert (report.step.structures, report.step.atoms, report.step.edges) == (4, 32, edges)
    assert [(one.split, one.structures, one.natoms) for one in report.surveys] == [
        (split, 4, (8, 8, 8, 8)) for split in ("train", "val", "test", "relax")
    ]
    assert report.scale == pytest.approx(0.5)
    assert report.seconds_per_step == pytest.approx(report.step.seconds / 2)

    energies = torch.tensor([sample.energy for sample in samples]).double()
    energy, forces = report.labels
    assert energy.raw.mean == pytest.approx(float(energies.mean()))
    assert energy.normalised.std == pytest.approx(float(energies.std(correction=0)) / 0.25, rel=1e-5)
    free = torch.cat([sample.forces[sample.fixed == 0] for sample in samples]).double()
    assert forces.raw.std == pytest.approx(float(free.std(correction=0)), rel=1e-6)

    assert (report.plan.batches_per_epoch, report.plan.total_steps) == (2, 6)
    assert set(report.step.metrics) == {"energy_mae", "forces_mae", "loss"}
    assert report.warnings == ()


def test_weights_part_of_the_memory_is_exact(tmp_path: Path) -> None:
    report = check(tmp_path, content(tmp_path))
    num_bytes = 4 * report.parameters
    memory = report.memory
    tensors = len(EquiformerV2(**{key: value for key, value in FLAT_MODEL.items() if key != "name"}).state_dict())
    assert memory.gradients == 2 * num_bytes  # and DDP's buckets
    assert memory.moments == 2 * num_bytes + 4 * tensors  # and Adam's step counts
    assert memory.averaged == num_bytes
    assert num_bytes <= memory.weights < 1.2 * num_bytes  # and small tables
    assert memory.total == memory.weights + memory.gradients + memory.moments + memory.averaged + memory.activations
    without = check(tmp_path, content(tmp_path / "other", ema_decay=None))
    assert without.memory.averaged == 0


def test_activations_grow_with_the_batch(tmp_path: Path) -> None:
    given = content(tmp_path)
    one, four = (check(tmp_path, given, structures=count).memory.activations for count in (1, 4))
    assert four == pytest.approx(one, rel=0.25)  # both are of the configured batch of two


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    report = check(tmp_path, content(tmp_path, precision=precision))
    assert report.memory.moments >= 8 * report.parameters


def test_accumulation_and_processes_that_are_not_here(tmp_path: Path) -> None:
    given = content(tmp_path, batch_size=1, global_batch_size=8, grad_accumulation_steps=2)
    report = check(tmp_path, given, "--num-gpus", "4")
    assert (report.plan.batches.ranks, report.plan.batches.accumulation) == (4, 2)
    assert report.seconds_per_step == pytest.approx(2 * report.step.seconds)


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ), list(logging.getLogger().handlers), logging.getLogger().level
    check(tmp_path, content(tmp_path))
    assert (dict(os.environ), list(logging.getLogger().handlers), logging.getLogger().level) == before
    assert logging.getLogger().isEnabledFor(logging.WARNING)
    assert not torch.distributed.is_initialized()


def test_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    torch.save({"state_dict": {"other.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt does not fit the model of this config"):
        check(tmp_path, content(tmp_path), "--checkpoint", str(tmp_path / "other.pt"))


def test_parameters_without_a_loss(tmp_path: Path) -> None:
    given = content(tmp_path)
    given["loss_functions"] = given["loss_functions"][:1]
    with pytest.raises(ValueError, match=r"parameters do not take part in the loss \(force_block\..*regress_forces"):
        check(tmp_path, given)


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    given = content(tmp_path)
    given["loss_functions"][0]["energy"]["coefficient"] = 1e39
    with pytest.raises((ValueError, FloatingPointError), match="not finite|is inf"):
        check(tmp_path, given)


def test_an_element_without_reference_is_named(tmp_path: Path) -> None:
    given = content(tmp_path)
    given["dataset"]["train"]["transforms"]["element_references"] = {"energy": {"elements": {"Ag": 1.0}}}
    with pytest.raises(ValueError, match="Cu: no element reference"):
        check(tmp_path, given)


def test_references_come_before_the_normaliser(tmp_path: Path) -> None:
    given = content(tmp_path)
    rewrite(tmp_path / "data", lambda sample: setattr(sample, "energy", sample.energy - 8 * 40.0))
    given["dataset"]["train"]["transforms"]["element_references"] = {"energy": {"elements": {"Cu": -40.0}}}
    report = check(tmp_path, given)
    energy = report.labels[0]
    assert energy.raw.mean == pytest.approx(energy.referenced.mean - 320, abs=1e-3)
    assert abs(energy.normalised.mean) < 1
    assert report.energy_kind.startswith("total or atomisation energies (-39.5 eV per atom); element references are")


def test_relaxed_positions_and_noise(tmp_path: Path) -> None:
    def add_relaxed(sample: Any) -> None:
        sample.pos_relaxed = sample.pos + 0.1
        sample.tags = torch.where(sample.fixed == 0, 1, 0)

    given = content(tmp_path, HYDRA_MODEL)
    rewrite(tmp_path / "data", add_relaxed)
    heads = {**HYDRA_MODEL["heads"], "displacement": {"module": "ev2_vector_head", "output_name": "displacement"}}
    del heads["forces"], given["outputs"]["forces"]
    given["dataset"]["train"]["transforms"] = {"normalizer": {"energy": NORMALIZER["energy"]}}
    given["model"] = {**HYDRA_MODEL, "heads": heads}
    given["task"]["noisy_nodes"] = {"std": 0.05, "probability": 1.0}
    given["outputs"]["displacement"] = {"level": "atom", "eval_on_free_atoms": True, "train_on_free_atoms": True}
    loss = {"displacement": {"fn": "mae", "coefficient": 15, "final_coefficient": 1}}
    given["loss_functions"] = [given["loss_functions"][0], loss]
    given["evaluation_metrics"] = {"metrics": {"displacement": ["mae"]}, "primary_metric": "displacement_mae"}
    report = check(tmp_path, given)
    displacement = report.labels[1]
    assert displacement.target == "displacement"
    assert displacement.raw.mean == pytest.approx(0.1, abs=0.03)
    assert set(report.step.metrics) == {"displacement_mae", "loss"}
