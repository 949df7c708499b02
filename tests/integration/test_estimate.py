"""Estimates of whole runs: what is held, sizes of datasets, largest batches."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ev2_plugin.integration.check.dry_run import training_config
from ev2_plugin.integration.dataset_sizes import StructureSizes, dataset_sizes, given_sizes
from ev2_plugin.integration.estimate import LEVELS, Tracer, Use, configured_level, estimate
from ev2_plugin.integration.held_memory import held_memory
from ev2_plugin.integration.host_classes import only_needed_imports
from helpers.rewriting import rewrite
from helpers.tiny_s2ef import FLAT_MODEL, HYDRA_MODEL, NUM_STRUCTURES, config, write_config, write_dataset

SIZES = given_sizes(20, 12)


def read(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    return training_config(write_config(folder / "run.yml", content), ["--cpu"])


def content(folder: Path, model: dict[str, Any] = FLAT_MODEL) -> dict[str, Any]:
    return copy.deepcopy(config(write_dataset("lmdb", folder / "data"), model, "ev2_plugin.Trainer"))


@pytest.mark.parametrize("model", [FLAT_MODEL, HYDRA_MODEL], ids=["flat", "hydra"])
def test_every_level_and_predictions(model: dict[str, Any], tmp_path: Path) -> None:
    run = read(tmp_path, content(tmp_path, model))
    found = estimate(run, SIZES, "cuda", 10**9, (True, False))
    assert [(one.use.training, one.use.level) for one in found] == [
        *((True, level) for level in LEVELS),
        (False, "none"),
    ]
    training, prediction = found[0], found[-1]
    assert training.held.parameters < training.held.total < training.peak == training.worst
    assert prediction.peak < training.peak
    assert training.largest_batch < prediction.largest_batch
    for one in found:
        assert one.batch_size == 2
        grown = one.fixed + one.held.total + one.per_atom * 40 + one.per_edge * 480
        assert one.peak == pytest.approx(grown, rel=1e-3)
        assert one.most_atoms == pytest.approx(20 * one.largest_batch, rel=0.05)


def test_the_largest_batch_fits_and_one_more_does_not(tmp_path: Path) -> None:
    run = read(tmp_path, content(tmp_path))
    memory = 300 * 10**6
    with only_needed_imports(run):
        follow = Tracer(run, Use(True, "none"), "cuda")
        found = follow.largest_multiple(memory, 20, 240)
        assert follow.profile(20 * found, 240 * found).peak(20 * found, 240 * found) <= memory
        assert follow.profile(20 * found, 240 * found).peak(20 * (found + 1), 240 * (found + 1)) > memory
        assert follow.largest_multiple(follow.held.parameters, 20, 240) == 0


def test_what_is_held(tmp_path: Path) -> None:
    run = read(tmp_path, content(tmp_path))
    model = nn.Linear(100, 10)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    training = held_memory(model, run, True, "cpu")
    assert (training.parameters, training.gradients, training.exchanged, training.averaged) == (4040,) * 4
    assert training.moments == pytest.approx(moments, abs=16)
    assert training.total == 4040 * 3 + training.moments
    assert training.at_step == 4040 + training.step
    assert 4000 <= training.step <= 3 * 4000  # of the largest parameter
    assert held_memory(model, run, True, "cuda").step == 4040  # of all at a time
    assert held_memory(model, run, True, "cpu", alone=True).exchanged == 0
    prediction = held_memory(model, run, False, "cpu")
    assert (prediction.total, prediction.at_step) == (4 * 4040, 0)
    run["optim"]["optimizer"], run["optim"]["ema_decay"] = "SGD", None
    assert held_memory(model, run, True, "cpu").total == 2 * 4040
    run["optim"]["optimizer"] = "Adamm"
    with pytest.raises(ValueError, match=r"torch\.optim has no 'Adamm'"):
        held_memory(model, run, True, "cpu")


def test_settings_reach_the_estimate(tmp_path: Path) -> None:
    run = read(tmp_path, content(tmp_path))
    peaks = {}
    for precision in ("fp32", "bf16"):
        run["optim"]["precision"] = precision
        peaks[precision] = estimate(run, SIZES, "cuda", 10**9, (False,))[0].per_edge
    assert peaks["bf16"] < peaks["fp32"]
    run["optim"]["precision"] = "int8"
    with pytest.raises(ValueError, match=r"optim\.precision must be one of fp32, fp16, bf16, got 'int8'"):
        estimate(run, SIZES, "cuda", 10**9, (False,))
    run["model"]["activation_checkpoint"] = True  # as the official files have it
    assert configured_level(run) == "block"


def test_models_of_others_are_refused(tmp_path: Path) -> None:
    given = content(tmp_path)
    given["model"] = {"name": "schnet", "hidden_channels": 8}
    run = read(tmp_path, given)
    with pytest.raises(ValueError, match="only models of ev2_plugin can be estimated"):
        estimate(run, SIZES, "cpu", 10**9, (False,))


def test_sizes_of_a_dataset(tmp_path: Path) -> None:
    sizes = dataset_sizes(read(tmp_path, content(tmp_path)))
    assert sizes.natoms == (8,) * NUM_STRUCTURES
    assert sizes.edges_per_atom == sizes.most_edges_per_atom == 12.0
    assert sizes.source == f"dataset.train ({tmp_path / 'data'}): all of 4 structures"
    assert sizes.mean_batch(3) == (24, 288)


def test_larger_structures_than_the_mean(tmp_path: Path) -> None:
    given = content(tmp_path, HYDRA_MODEL)

    def cut(sample: Any) -> None:
        for key in ("pos", "atomic_numbers", "forces", "fixed", "tags"):
            if key in sample:
                sample[key] = sample[key][:4]
        sample.natoms = 4

    rewrite(tmp_path / "data", cut, range(2))
    sizes = dataset_sizes(read(tmp_path, given))
    assert sizes.natoms == (8, 8, 4, 4)
    assert sizes.mean_atoms == 6
    assert sizes.largest_batch(3)[0] == 20
    assert sizes.largest_batch(6)[0] == 24 + 2 * 8  # those that are not known are as large as the largest


def test_sizes_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one atom"):
        given_sizes(0, 12)
    with pytest.raises(ValueError, match="edges per atom must be positive, got 0"):
        given_sizes(8, 0)
    with pytest.raises(ValueError, match="at least one atom, got no structures"):
        StructureSizes((), 12, 12, "nowhere")
    given = content(tmp_path)
    for split in given["dataset"].values():
        split["src"] = "/nowhere"
    with pytest.raises(FileNotFoundError, match=r"no dataset is here \(dataset\.train\.src: /nowhere, .*--atoms"):
        dataset_sizes(read(tmp_path, given))
