"""Files of a run that would execute something: refused wherever the host or the plugin reads them, unless trusted."""

from __future__ import annotations

import copy
import pickle
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fairchem.core.datasets.lmdb_dataset as host_lmdb
import lmdb
import numpy as np
import pytest
import torch
from fairchem.core.common import utils as host_utils
from fairchem.core.datasets.lmdb_dataset import LmdbDataset
from torch_geometric.data import Data

import ev2_plugin
from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.sample import read_sample
from ev2_plugin.integration.check.splits import open_split
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.launcher import main
from ev2_plugin.integration.loading import load_potential, read_checkpoint
from ev2_plugin.integration.preflight import check_checkpoint
from ev2_plugin.storage.unpickler import Refused
from helpers import tiny_s2ef, trainers
from helpers.attacks import Attack, AttackInStorage

TRUSTING = {"task": {"trust": True}}
FORMS = {"zip": True, "legacy": False}
pytestmark = pytest.mark.usefixtures("restored_process_state")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder that an attack makes."""
    return tmp_path / "made"


def poison(path: Path, key: bytes, sample: Any) -> None:
    """Replace a value of an LMDB."""
    with lmdb.open(str(path), subdir=False, map_size=2**24) as env, env.begin(write=True) as transaction:
        transaction.put(key, pickle.dumps(sample, protocol=-1))


def dataset_with(folder: Path, attack: Any, entry: int = 2, format_name: str = "lmdb") -> dict[str, Any]:
    settings = tiny_s2ef.write_dataset(format_name, folder / "data")
    sample = next(read_lmdb(folder / "data" / "data.0000.lmdb", [entry]))
    sample.comment = attack
    poison(folder / "data" / "data.0000.lmdb", str(entry).encode(), sample)
    return settings


@pytest.mark.parametrize("kind", [Attack, AttackInStorage])
@pytest.mark.parametrize("format_name", ["lmdb", "single_point_lmdb", "trajectory_lmdb", "oc22_lmdb"])
def test_a_sample_that_would_execute_something_is_refused(
    tmp_path: Path, made: Path, kind: Callable[[Path], Any], format_name: str
) -> None:
    settings = dataset_with(tmp_path, kind(made), format_name=format_name)
    with only_needed_imports({}):
        dataset = open_split("train", settings)
        assert dataset[1].natoms == 8
        with pytest.raises(Refused, match=r"data.0000.lmdb, entry 2 is refused: it asks for posix.mkdir"):
            dataset[2]
    assert not made.exists()
    with only_needed_imports(TRUSTING):
        open_split("train", settings)[2]
    assert made.exists(), "the attack should work where nothing stops it"


def test_samples_are_refused_in_workers_too(tmp_path: Path, made: Path) -> None:
    settings = dataset_with(tmp_path, Attack(made))
    with only_needed_imports({}):
        loader = torch.utils.data.DataLoader(open_split("train", settings), num_workers=1, collate_fn=len)
        with pytest.raises(Refused, match="entry 2 is refused: it asks for posix.mkdir"):
            list(loader)
    assert not made.exists()


def test_a_class_of_somebody_over_the_hosts_dataset_reads_data_only(tmp_path: Path, made: Path) -> None:
    settings = dataset_with(tmp_path, Attack(made))

    class Mine(LmdbDataset):
        pass

    with only_needed_imports({}):
        dataset = Mine(settings)
        assert dataset[1].natoms == 8
        with pytest.raises(Refused, match="it asks for posix.mkdir"):
            dataset[2]
    assert not made.exists()


def test_datasets_read_the_same_as_the_hosts(tmp_path: Path) -> None:
    settings = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    with only_needed_imports({}):
        ours = list(open_split("train", settings))
    host = LmdbDataset(settings)
    for index, one in enumerate(ours):
        other = host[index]
        assert set(one.keys()) == set(other.keys())
        for key, value in other.to_dict().items():
            same = torch.equal(one[key], value) if isinstance(value, torch.Tensor) else one[key] == value
            assert same, key


def test_samples_of_old_releases_are_read() -> None:
    old = Data.__new__(Data)
    old.__dict__.update({"pos": torch.ones(2, 3), "natoms": 2, "x": None, "y": np.float64(1.5)})
    found = read_sample(pickle.dumps(old, protocol=4))
    assert set(found.keys()) == {"pos", "natoms", "y"}
    assert found.y == 1.5


def test_a_launcher_refuses_a_run_whose_samples_would_execute_something(tmp_path: Path, made: Path) -> None:
    config = tiny_s2ef.config(dataset_with(tmp_path, Attack(made), 0), tiny_s2ef.FLAT_MODEL, "ev2")
    run = tiny_s2ef.write_config(tmp_path / "run.yml", config)
    arguments = ["--mode", "train", "--config-yml", str(run), "--run-dir", str(tmp_path), "--cpu"]
    with pytest.raises(Refused, match=r"entry 0 is refused: it asks for posix.mkdir.*pass --trust"):
        main(arguments)
    assert not made.exists()
    with pytest.raises(FileExistsError):  # each split is looked at: the second time the folder is there
        main([*arguments, "--trust"])
    assert made.exists()


def saved(path: Path, content: Any, form: str = "zip") -> str:
    torch.save(content, path, _use_new_zipfile_serialization=FORMS[form])
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_that_would_execute_something_is_refused(tmp_path: Path, made: Path, form: str) -> None:
    path = Path(saved(tmp_path / "c.pt", {"state_dict": {}, "config": {"model": {}, "a": Attack(made)}}, form))
    readers = (read_checkpoint, load_potential, ev2_plugin.Calculator, lambda p: check_checkpoint(torch.nn.ReLU(), p))
    for reader in readers:
        with pytest.raises(Refused, match=r"c.pt is refused: it asks for posix.mkdir"):
            reader(path)
    assert not made.exists()
    assert read_checkpoint(path, trust=True)["state_dict"] == {}
    assert made.exists()


def test_the_hosts_own_readings_of_checkpoints_are_safe(tmp_path: Path, made: Path) -> None:
    path = saved(tmp_path / "c.pt", {"state_dict": {}, "config": {"model": Attack(made)}})
    with only_needed_imports({}), pytest.raises(Refused, match="posix.mkdir"):
        host_utils.load_model_and_weights_from_checkpoint(path)
    config = trainers.config(tiny_s2ef.write_dataset("lmdb", tmp_path / "data"))
    trainer = trainers.make_trainer(config, tmp_path)
    with only_needed_imports({}), pytest.raises(Refused, match="posix.mkdir"):
        trainer.load_checkpoint(path)
    assert not made.exists()


@pytest.mark.parametrize("name", ["normalizer", "element_references"])
@pytest.mark.parametrize("place", ["of all targets", "of one target"])
def test_files_of_normalisers_and_references_are_read_as_data(
    tmp_path: Path, made: Path, name: str, place: str
) -> None:
    attack = saved(tmp_path / "values.pt", {"energy": Attack(made)})
    config = trainers.config(tiny_s2ef.write_dataset("lmdb", tmp_path / "data"))
    given = {"file": attack} if place == "of all targets" else {"energy": {"file": attack}}
    config["dataset"]["train"]["transforms"] = {name: given}
    with pytest.raises(Refused, match=r"values.pt is refused: it asks for posix.mkdir"):
        trainers.make_trainer(config, tmp_path)
    assert not made.exists()


def test_metadata_is_read_as_data(tmp_path: Path, made: Path) -> None:
    settings = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    np.savez(tmp_path / "data" / "metadata.npz", natoms=np.array([Attack(made)] * 4, dtype=object))
    with only_needed_imports({}), pytest.raises(ValueError, match=r"metadata.npz cannot be read.*Object arrays"):
        open_split("train", settings).metadata_hasattr("natoms")
    assert not made.exists()


def start_of(model: Any, tmp_path: Path) -> dict[str, Any]:
    start = saved(tmp_path / "start.pt", {"state_dict": {}, "config": {"model": model}})
    hydra = {**copy.deepcopy(tiny_s2ef.HYDRA_MODEL), "finetune_config": {"starting_checkpoint": start}}
    return {"model": hydra, "trainer": "ocp"}


def test_a_start_of_fine_tuning_is_read_as_data(tmp_path: Path, made: Path) -> None:
    with pytest.raises(Refused, match=r"start.pt is refused: it asks for posix.mkdir"), ExitStack() as stack:
        stack.enter_context(only_needed_imports(start_of({"name": "hydra", "a": Attack(made)}, tmp_path)))
    assert not made.exists()


def test_a_start_of_fine_tuning_cannot_name_a_function(tmp_path: Path, made: Path) -> None:
    model = {"name": "subprocess.check_call", "args": ["mkdir", str(made)]}
    with pytest.raises(Refused, match=r"start.pt: its config names the class subprocess.check_call"), ExitStack() as s:
        s.enter_context(only_needed_imports(start_of(model, tmp_path)))
    assert not made.exists()
    subprocess.check_call(args=model["args"])
    assert made.exists(), "the attack should work where nothing stops it"


def test_afterwards_the_host_reads_as_it_did(tmp_path: Path) -> None:
    with only_needed_imports({}):
        assert host_lmdb.pickle is not pickle
    assert host_lmdb.pickle is pickle
    assert host_utils.torch is torch


@pytest.mark.parametrize("trust", ["yes", 1])
def test_trust_is_yes_or_no(trust: Any) -> None:
    with pytest.raises(ValueError, match="task.trust must be true or false"), ExitStack() as stack:
        stack.enter_context(only_needed_imports({"task": {"trust": trust}}))


def test_a_dataset_that_counts_more_than_it_has_is_refused(tmp_path: Path) -> None:
    settings = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    poison(tmp_path / "data" / "data.0000.lmdb", b"length", 10**12)
    with only_needed_imports({}), pytest.raises(ValueError, match="data.0000.lmdb counts 1000000000000 structures"):
        open_split("train", settings)
