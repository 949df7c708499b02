"""Prediction files of our trainer: order, precision, repeated ids, padding of ranks, against the host's."""

import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from ev2_plugin.data.predictions import read_s2ef_predictions
from ev2_plugin.integration import launcher
from ev2_plugin.integration.trainer import Trainer
from helpers import tiny_s2ef
from helpers.trainers import make_trainer

SYSTEMS = ((12, 0), (3, 5), (101, 1), (7, 0))  # as text they have another order
NAMES = ["12_0", "3_5", "101_1", "7_0"]


def write_slabs(folder: Path, systems: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The first slabs under other names; the i-th has i atoms more that are fixed."""
    dataset = tiny_s2ef.write_dataset("lmdb", folder)
    environment = lmdb.open(str(folder / "data.0000.lmdb"), subdir=False)
    with environment.begin(write=True) as transaction:
        for index, (sid, fid) in enumerate(systems):
            key = str(index).encode()
            data = pickle.loads(transaction.get(key))
            data.sid, data.fid = sid, fid
            data.fixed[: 4 + index] = 1
            transaction.put(key, pickle.dumps(data))
        for index in range(len(systems), tiny_s2ef.NUM_STRUCTURES):
            transaction.delete(str(index).encode())
        transaction.put(b"length", pickle.dumps(len(systems)))
    environment.close()
    return dataset


def settings(dataset: dict[str, Any], trainer: str = "ev2_plugin.Trainer", **task: Any) -> dict[str, Any]:
    made = tiny_s2ef.config(dataset, tiny_s2ef.FLAT_MODEL, trainer)
    made["dataset"] = {"train": dataset, "test": dataset}
    made["task"] = task
    return made


def predict(trainer: Any, folder: Path) -> dict[str, np.ndarray]:
    trainer.predict(trainer.test_loader, results_file="predictions", disable_tqdm=True)
    with np.load(folder / "results" / "test" / "ocp_predictions.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def slabs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_slabs(tmp_path_factory.mktemp("named") / "data", SYSTEMS)


def test_rows_are_in_the_order_of_the_dataset_and_in_float32(slabs: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(settings(slabs), tmp_path)
    assert list(trainer.test_dataset.indices) != [0, 1, 2, 3]  # the host shuffles
    found = predict(trainer, tmp_path)
    assert found["ids"].tolist() == NAMES
    assert found["energy"].dtype == found["forces"].dtype == np.float32
    assert found["energy"].shape == (4, 1)
    assert found["chunk_idx"].tolist() == [4, 7, 9]  # three cuts for four structures
    assert found["forces"].shape == (10, 3)
    for index, number in enumerate(trainer.test_dataset.indices):
        alone = trainer.predict(trainer.collater([trainer.test_dataset[index]]), per_image=False, disable_tqdm=True)
        free = trainer.test_dataset[index].fixed == 0
        expected = torch.cat([alone["energy"].flatten(), alone["forces"][free].flatten()])
        forces = np.split(found["forces"], found["chunk_idx"])[number]
        got = torch.from_numpy(np.concatenate([found["energy"][number], forces.flatten()]))
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)
    read = read_s2ef_predictions(tmp_path / "results" / "test" / "ocp_predictions.npz")
    assert [len(one.free_forces) for one in read.values()] == [4, 3, 2, 1]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_asked_for_the_hosts_order_and_precision_it_writes_the_hosts_file(
    dtype: str, slabs: dict[str, Any], tmp_path: Path
) -> None:
    ours = make_trainer(settings(slabs, prediction_dtype=dtype, prediction_order="ids"), tmp_path / "ours")
    host_task = {} if dtype == "float16" else {"prediction_dtype": dtype}
    host = make_trainer(settings(slabs, "equiformerv2_forces", **host_task), tmp_path / "host")
    host._unwrapped_model.load_state_dict(ours._unwrapped_model.state_dict())
    host.ema = ours.ema = None
    mine, theirs = predict(ours, tmp_path / "ours"), predict(host, tmp_path / "host")
    assert list(mine) == list(theirs)
    assert mine["ids"].tolist() == sorted(NAMES)
    for key, value in mine.items():
        assert value.dtype == theirs[key].dtype
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def test_an_output_may_ask_for_half_precision_itself(slabs: dict[str, Any], tmp_path: Path) -> None:
    content = settings(slabs)
    content["outputs"]["forces"]["prediction_dtype"] = "float16"
    found = predict(make_trainer(content, tmp_path), tmp_path)
    assert (found["energy"].dtype, found["forces"].dtype) == (np.float32, np.float16)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"prediction_order": "random"}, "task.prediction_order must be one of dataset, ids, got 'random'"),
        ({"prediction_dtype": "half"}, "task.prediction_dtype must be one of float32, float16, got 'half'"),
    ],
)
def test_settings_without_meaning_are_refused(
    task: dict[str, str], message: str, slabs: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(settings(slabs, **task), tmp_path)


def test_a_repeated_id_is_an_error_before_anything_is_predicted(tmp_path: Path) -> None:
    dataset = write_slabs(tmp_path / "data", ((12, 0), (3, 5), (12, 0), (12, 1)))
    trainer = make_trainer(settings(dataset), tmp_path)
    calls: list[Any] = []
    trainer.model.register_forward_hook(lambda *call: calls.append(call))
    with pytest.raises(ValueError, match=r"1 ids belong to more than one structure of the dataset: 12_0; .*nothing"):
        predict(trainer, tmp_path)
    assert not calls
    assert not list((tmp_path / "results").rglob("*.npz"))


def spoil(trainer: Trainer, sid: int) -> None:
    """Make the model's forces of one system NaN."""

    def hook(model: Any, arguments: tuple[Any, ...], out: dict[str, torch.Tensor]) -> None:
        (batch,) = arguments
        out["forces"][batch.sid[batch.batch] == sid] = float("nan")

    trainer.model.register_forward_hook(hook)


def test_predictions_that_are_not_finite_are_named_and_kept(slabs: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(settings(slabs), tmp_path)
    spoil(trainer, 101)
    with pytest.raises(ValueError, match=r"predictions of 1 of 4 structures are not finite: 101_1; all are in "):
        predict(trainer, tmp_path)
    (kept,) = (tmp_path / "results" / "test").iterdir()
    assert kept.name == "ocp_predictions.not_finite.npz"
    with np.load(kept) as file:
        assert file["ids"].tolist() == NAMES
        forces = np.split(file["forces"], file["chunk_idx"])
    assert [bool(np.isfinite(one).all()) for one in forces] == [True, True, False, True]


def test_a_folder_that_cannot_be_written_to_is_an_error_before_anything_is_predicted(
    slabs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(settings(slabs), tmp_path)
    monkeypatch.setattr(trainer, "_forward", pytest.fail)
    monkeypatch.setitem(trainer.config["cmd"], "results_dir", str(tmp_path / "gone"))
    with pytest.raises(PermissionError, match="gone is not a folder that one may write to"):
        predict(trainer, tmp_path)


def test_batches_are_predicted_as_the_host_does_where_no_file_is_asked_for(
    slabs: dict[str, Any], tmp_path: Path
) -> None:
    trainer = make_trainer(settings(slabs), tmp_path)
    predicted = trainer.predict(trainer.test_loader, disable_tqdm=True)
    assert sorted(predicted["ids"]) == sorted(NAMES)
    assert not list((tmp_path / "results").rglob("*.npz"))


@pytest.fixture
def one_thread_per_process() -> Iterator[None]:
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_per_process")
@pytest.mark.parametrize("balanced", [False, True], ids=["as-they-come", "balanced"])
def test_two_ranks_write_every_structure_of_an_odd_dataset_once(
    balanced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = write_slabs(tmp_path / "data", SYSTEMS[:3])
    if balanced:
        np.savez(tmp_path / "data" / "metadata.npz", natoms=np.full(3, 8))
    config = settings(dataset)
    config["optim"] |= {"batch_size": 1, "eval_batch_size": 1, **tiny_s2ef.COSINE}
    make_trainer(config, tmp_path / "made").save(checkpoint_file="weights.pt", training_state=False)
    (checkpoint,) = (tmp_path / "made").rglob("weights.pt")
    tiny_s2ef.write_config(Path("run.yml"), config)
    arguments = ["--mode", "predict", "--config-yml", "run.yml", "--cpu", "--checkpoint", str(checkpoint)]
    launcher.main([*arguments, "--num-gpus", "2", "--timestamp-id", "two"])
    launcher.main([*arguments, "--timestamp-id", "one"])
    one, two = (np.load(f"results/{run}/ocp_predictions.npz") for run in ("one", "two"))
    assert two["ids"].tolist() == NAMES[:3]
    for key in one.files:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_per_process")
def test_two_ranks_refuse_a_repeated_id_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = write_slabs(tmp_path / "data", ((12, 0), (3, 5), (7, 1), (12, 0)))
    config = settings(dataset)
    make_trainer(config, tmp_path / "made").save(checkpoint_file="weights.pt", training_state=False)
    (checkpoint,) = (tmp_path / "made").rglob("weights.pt")
    tiny_s2ef.write_config(Path("run.yml"), config)
    arguments = ["--mode", "predict", "--config-yml", "run.yml", "--cpu", "--checkpoint", str(checkpoint)]
    with pytest.raises(ChildFailedError) as error:
        launcher.main([*arguments, "--num-gpus", "2", "--timestamp-id", "two"])
    _, failure = error.value.get_first_failure()
    assert "1 ids belong to more than one structure of the dataset: 12_0" in failure.message["message"]
    assert not Path("results/two/ocp_predictions.npz").exists()
