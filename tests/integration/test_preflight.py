"""Runs that cannot go well are refused before they start, and say why."""

import gc
import warnings
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch

from ev2_plugin.data.metadata import DatasetMetadata, write_metadata
from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.preflight import check_checkpoint, check_datasets
from helpers.rewriting import rewrite
from helpers.tiny_s2ef import FLAT_MODEL, NUM_STRUCTURES, config, write_dataset


def run_config(folder: Path, mode: str = "train") -> dict[str, Any]:
    return {**config(write_dataset("lmdb", folder), FLAT_MODEL, "ocp"), "mode": mode}


@pytest.mark.parametrize("mode", ["train", "validate", "predict", "run-relaxations"])
def test_a_good_dataset_passes_and_stays_usable(mode: str, tmp_path: Path) -> None:
    good = run_config(tmp_path / "data", mode)
    check_datasets(good)
    check_datasets(good)


@pytest.mark.parametrize(("mode", "split"), [("train", "train"), ("validate", "val"), ("predict", "test")])
def test_missing_source(mode: str, split: str, tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data", mode)
    wrong["dataset"][split]["src"] = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=rf"dataset\.{split}\.src: .*nowhere does not exist"):
        check_datasets(wrong)


def test_a_submitted_run_may_have_its_data_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = {**run_config(tmp_path / "data"), "submit": True}
    elsewhere["dataset"]["val"]["src"] = "/on/the/compute/node"
    check_datasets(elsewhere)
    assert "dataset.val.src: /on/the/compute/node does not exist on this machine" in caplog.text


def test_no_training_split_is_needed_to_predict(tmp_path: Path) -> None:
    bare = run_config(tmp_path / "data", "predict")
    bare["dataset"]["train"] = None
    check_datasets(bare)


def test_the_list_form_of_older_files_is_left_to_the_host() -> None:
    check_datasets({"mode": "train", "dataset": [{"src": "nowhere"}]})


def test_a_split_with_settings_of_its_own_inherits_none(tmp_path: Path) -> None:
    mixed = run_config(tmp_path / "data", "validate")
    lmdb_settings = {"src": mixed["dataset"]["val"]["src"], "use_train_settings": False}
    train = write_dataset("ase_db", tmp_path / "ase")
    mixed["dataset"] = {"train": train, "val": lmdb_settings}
    check_datasets(mixed)
    mixed["dataset"]["val"] = {"src": lmdb_settings["src"]}
    with pytest.raises(ValueError, match="No valid ase data found"):
        check_datasets(mixed)


def test_every_split_is_opened_whatever_the_mode(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data", "validate")
    wrong["dataset"]["relax"]["src"] = "nowhere"
    with pytest.raises(FileNotFoundError, match=r"dataset\.relax\.src: nowhere does not exist"):
        check_datasets(wrong)


def test_folder_without_lmdbs(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    wrong["dataset"]["val"]["src"] = str(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dataset\.val \(.*empty\) is empty: the folder has no \*\.lmdb"):
        check_datasets(wrong)


def test_a_mapping_onto_a_key_that_exists(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    rewrite(tmp_path / "data", lambda sample: setattr(sample, "y", sample.energy))
    wrong["dataset"]["train"]["key_mapping"] = {"y": "energy"}
    with pytest.raises(
        ValueError, match=r"dataset\.train\.key_mapping renames 'y' to 'energy', but sample 0 .* already"
    ):
        check_datasets(wrong)


def test_balancing_needs_metadata(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    for name in ("test", "relax"):
        del wrong["dataset"][name]
    for on_error in (None, "raise"):
        wrong["optim"]["load_balancing_on_error"] = on_error
        with pytest.raises(ValueError, match=r"dataset\.train .* has no metadata\.npz.*`ev2 data prepare` writes it"):
            check_datasets(wrong)
    natoms = np.full(NUM_STRUCTURES, 8)
    write_metadata(tmp_path / "data", DatasetMetadata(natoms=natoms, neighbors=12 * natoms))
    check_datasets(wrong)


def test_metadata_of_other_structures(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    wrong["optim"]["load_balancing_on_error"] = "raise"
    natoms = np.full(NUM_STRUCTURES + 1, 8)
    write_metadata(tmp_path / "data", DatasetMetadata(natoms=natoms, neighbors=12 * natoms))
    with pytest.raises(ValueError, match=r"dataset\.train \(.*\): Loaded metadata and dataset size mismatch"):
        check_datasets(wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the host leaves the file open
        gc.collect()


def test_every_output_needs_its_label(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    wrong["outputs"]["stress"] = {
        "level": "system",
        "decomposition": {"stress_isotropic": {"irrep_dim": 0}, "stress_anisotropic": {"irrep_dim": 2}},
    }
    with pytest.raises(ValueError, match="has no 'stress', 'stress_isotropic', 'stress_anisotropic'"):
        check_datasets(wrong)


def test_displacements_need_relaxed_positions(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    wrong["outputs"]["displacement"] = wrong["outputs"]["forces"]
    with pytest.raises(ValueError, match=r"sample 0 of dataset\.train \(.*\) has no 'pos_relaxed'"):
        check_datasets(wrong)


def test_empty_dataset(tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with lmdb.open(str(tmp_path / "empty" / "data.0000.lmdb"), subdir=False, map_size=2**20) as environment:
        assert environment.stat()["entries"] == 0
    wrong["dataset"]["val"]["src"] = str(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dataset\.val \(.*empty\) is empty: it has no samples"):
        check_datasets(wrong)


@pytest.mark.parametrize("label", ["forces", "energy", "fixed"])
def test_missing_label(label: str, tmp_path: Path) -> None:
    wrong = run_config(tmp_path / "data")
    rewrite(tmp_path / "data", lambda sample: delattr(sample, label))
    with pytest.raises(
        ValueError, match=rf"sample 0 of dataset\.train \(.*\) has no '{label}'.*it has: atomic_numbers"
    ):
        check_datasets(wrong)
    check_datasets({**wrong, "mode": "predict"})  # labels are for training


def test_a_label_under_another_name_is_found_by_its_mapping(tmp_path: Path) -> None:
    named = run_config(tmp_path / "data")

    def rename(sample: Any) -> None:
        sample.y = sample.energy
        del sample.energy

    rewrite(tmp_path / "data", rename)
    with pytest.raises(ValueError, match="key_mapping"):
        check_datasets(named)
    for split in ("train", "val"):
        named["dataset"][split]["key_mapping"] = {"y": "energy"}
    check_datasets(named)


def settings(**changes: Any) -> dict[str, Any]:
    return {**{key: value for key, value in FLAT_MODEL.items() if key != "name"}, **changes}


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_weights_that_fit(prefix: str, tmp_path: Path) -> None:
    model = EquiformerV2(**settings())
    path = tmp_path / "checkpoint.pt"
    weights = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, path)
    check_checkpoint(model, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 2}, r"\d+ not in the checkpoint: blocks\.1\.[a-z_0-9.]+, .*, \.\.\."),
        ({"regress_forces": False}, r"\d+ not in the model: force_block\."),
        ({"sphere_channels": 24}, r"\d+ of another shape: sphere_embedding\.weight \(90, 16\) instead of \(90, 24\)"),
    ],
)
def test_weights_that_do_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"state_dict": EquiformerV2(**settings()).state_dict()}, path)
    with pytest.raises(ValueError, match="checkpoint.pt does not fit the model of this config. Weights " + message):
        check_checkpoint(EquiformerV2(**settings(**changes)), path)
