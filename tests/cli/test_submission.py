"""`ev2 submission` as a user has it: from a test set through predictions to a file that passes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_geometric.data import Data
from typer.testing import CliRunner, Result

from ev2_plugin.cli.main import app
from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from helpers import tiny_s2ef
from helpers.trainers import make_trainer

pytestmark = pytest.mark.usefixtures("restored_process_state")


def ev2(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def named_slabs(source: Path, first: int, count: int) -> Iterator[Data]:
    """Slabs under sids whose order as text is another."""
    for place, data in enumerate(list(read_lmdb(source))[:count]):
        data.sid, data.fid = 97 + first + 2 * place, 3 - place
        yield data


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Test set and prediction file of OC22's splits, through `ev2 fairchem`."""
    folder = tmp_path_factory.mktemp("predicted")
    dataset = tiny_s2ef.write_dataset("lmdb", folder / "slabs")
    config: dict[str, Any] = tiny_s2ef.config(dataset, tiny_s2ef.FLAT_MODEL, "ev2_plugin.Trainer")
    config["dataset"] = {"train": dataset}
    del config["task"]["prediction_dtype"]
    make_trainer(config, folder / "made").save(checkpoint_file="weights.pt", training_state=False)
    (checkpoint,) = (folder / "made").rglob("weights.pt")
    made = {}
    for split, first, count in (("id", 0, 4), ("ood", 1, 3)):
        lmdb = folder / split / "data.0000.lmdb"
        write_lmdb(lmdb, named_slabs(folder / "slabs" / "data.0000.lmdb", first, count))
        config["dataset"]["test"] = {"format": "lmdb", "src": str(lmdb.parent)}
        run = tiny_s2ef.write_config(folder / f"{split}.yml", config)
        flags = ["--mode", "predict", "--config-yml", run, "--cpu", "--checkpoint", checkpoint]
        result = ev2("fairchem", *flags, "--run-dir", folder, "--timestamp-id", split)
        assert result.exit_code == 0, result.output
        made[split] = (lmdb, folder / "results" / split / "ocp_predictions.npz")
    return made


def options(predicted: dict[str, tuple[Path, Path]], which: int) -> list[object]:
    return [argument for split, paths in predicted.items() for argument in (f"--{split}", paths[which])]


def test_from_a_checkpoint_to_a_file_that_passes(predicted: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    out = tmp_path / "s2ef.npz"
    result = ev2("submission", "build", "--task", "s2ef", "--dataset", "oc22", *options(predicted, 1), "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("no fault") == 2
    assert f"wrote {out}" in result.stderr
    with np.load(out) as file:
        assert file["id_ids"].tolist() == ["97_3", "99_2", "101_1", "103_0"]
        assert file["id_energy"].dtype == np.float32
        assert file["id_forces"].shape == (16, 3)
    result = ev2("submission", "check", out, "--task", "s2ef", "--dataset", "oc22", *options(predicted, 0))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("passes") == 2
    assert "not compared" not in result.stderr


def test_a_file_with_faults_is_refused(predicted: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    good, out = tmp_path / "good.npz", tmp_path / "bad.npz"
    arguments = ("--task", "s2ef", "--dataset", "oc22")
    assert ev2("submission", "build", *arguments, *options(predicted, 1), "--out", good).exit_code == 0
    with np.load(good) as file:
        np.savez(out, **{**file, "id_ids": np.array(["97_3", "99_2", "101_1", "9_9"])})
    ids = tmp_path / "ids.tsv"
    result = ev2("submission", "check", out, *arguments, *options(predicted, 0), "--ids-to", ids)
    assert result.exit_code == 3
    words = " ".join(result.stdout.replace("│", " ").split())
    assert "missing ids: 1 of the data set's 4: 103_0" in words
    assert "unknown ids: 1 are not in the data set: 9_9" in words
    assert result.stderr.strip().splitlines()[-1] == f"{out} must not be sent"
    assert ids.read_text() == "id\tmissing ids\t103_0\nid\tunknown ids\t9_9\n"

    result = ev2("submission", "check", out, *arguments, "--id", predicted["id"][0], "--json")
    assert result.exit_code == 3
    verdict = json.loads(result.stdout)
    assert verdict["passes"] is False
    assert [split["split"] for split in verdict["splits"]] == ["id", "ood"]
    assert verdict["splits"][0]["faults"][0] == {
        "kind": "missing ids",
        "text": "1 of the data set's 4",
        "ids": ["103_0"],
    }
    assert "not compared with a test set: ood; whether ids are missing is not known" in result.stderr


def test_building_refuses_faults_and_shows_them(predicted: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    with np.load(predicted["id"][1]) as file:
        np.savez(tmp_path / "half.npz", **{**file, "energy": file["energy"].astype(np.float16)})
    arguments = ("--task", "s2ef", "--dataset", "oc22", "--id", tmp_path / "half.npz", "--ood", predicted["ood"][1])
    out = tmp_path / "out.npz"
    result = ev2("submission", "build", *arguments, "--out", out)
    assert result.exit_code == 1
    assert "dtype: energy is float16" in result.stdout
    assert result.stderr.strip().splitlines()[-1] == f"error: {out} is not written: what it is made of has faults"
    assert not out.exists()
    result = ev2("submission", "build", *arguments, "--out", out, "--json")
    assert json.loads(result.stdout)["splits"][0]["faults"][0]["kind"] == "dtype"
    assert ev2("submission", "build", *arguments, "--out", out, "--allow-float16").exit_code == 0
    assert ev2("submission", "check", out, "--task", "s2ef", "--dataset", "oc22").exit_code == 3
    assert ev2("submission", "check", out, "--task", "s2ef", "--dataset", "oc22", "--allow-float16").exit_code == 0


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    file, nowhere = tmp_path / "text.npz", tmp_path / "nowhere.npz"
    for arguments, said in {
        ("check", file, "--task", "s2ef"): "is no .npz archive",
        ("check", nowhere, "--task", "s2ef"): "there is no file",
        ("build", "--task", "s2ef", "--id", file, "--out", nowhere): "missing: ood_ads, ood_cat, ood_both",
    }.items():
        result = ev2("submission", *arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert said in line
        assert "Traceback" not in result.output
