"""`run.json`: what was run, where, and how it ended, in every case."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from fairchem.core.common.logger import TensorboardLogger

import ev2_plugin
from ev2_plugin.integration import provenance
from ev2_plugin.integration.run_record import as_plain, config_digest, recorded
from ev2_plugin.training.stopping import Stopped

KEY = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "mode": "train",
    "seed": 7,
    "checkpoint": None,
    "timestamp_id": "mine",
    "run_dir": Path("runs"),
    "optim": {"lr_initial": 0.1, "betas": (0.9, 0.99)},
    "dataset": {"train": {"src": "data/train", "format": "lmdb"}, "val": {"src": "data/val"}, "test": {}},
}


def trainer_in(folder: Path, **changes: Any) -> Any:
    """As much of a trainer as is looked at."""
    folder.mkdir(exist_ok=True)
    config = {"cmd": {"logs_dir": str(folder)}}
    made = SimpleNamespace(
        config=config,
        logger=None,
        is_debug=False,
        device=torch.device("cpu"),
        timestamp_id="mine",
        step=0,
        epoch=0,
        train_dataset=range(12),
        val_dataset=None,
    )
    vars(made).update(changes)
    made.logger = TensorboardLogger(config)
    return made


def run(folder: Path, first: int = 1, last: int = 3, error: BaseException | None = None, **config: Any) -> None:
    trainer = trainer_in(folder)
    with recorded({**CONFIG, **config}, trainer):
        for step in range(first, last + 1):
            trainer.logger.log({"loss": 1.0, "epoch": step / 2}, step=step, split="train")
            trainer.step, trainer.epoch = step, step / 2
        if error is not None:
            raise error


def attempts(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "run.json").read_text())["attempts"]


def test_a_run_that_finishes_tells_all_about_itself(tmp_path: Path) -> None:
    run(tmp_path)
    (told,) = attempts(tmp_path)
    assert (told["mode"], told["run"], told["seed"], told["ranks"]) == ("train", "mine", 7, 1)
    assert told["command"] == sys.argv
    assert told["versions"]["ev2_plugin"] == ev2_plugin.__version__
    assert told["versions"]["torch"] == torch.__version__
    assert {"python", "cuda", "fairchem-core", "numpy", "e3nn"} <= set(told["versions"])
    assert told["places"] == [provenance.place(torch.device("cpu"))]
    assert told["datasets"] == {
        "train": {"src": "data/train", "structures": 12},
        "val": {"src": "data/val", "structures": None},
    }
    assert (told["state"], told["step"], told["epoch"]) == ("finished", 3, 1.5)
    assert "resumed_from_step" not in told
    assert told["started"] <= told["ended"]
    written = yaml.safe_load((tmp_path / told["config"]).read_text())
    assert written == as_plain(CONFIG)
    assert told["config_digest"] == config_digest(written)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (FloatingPointError("the loss was not finite"), "failed"),
        (KeyboardInterrupt("a second Ctrl-C"), "stopped"),
        (Stopped("stopped at step 3, saved to checkpoint.pt", signal.SIGTERM), "stopped"),
        (SystemExit(-1), "stopped"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)):
        run(tmp_path, error=error)
    (told,) = attempts(tmp_path)
    assert (told["state"], told["step"]) == (state, 3)
    assert told["error"] == {"class": type(error).__name__, "message": str(error)}


def test_a_run_says_that_it_runs_from_the_start(tmp_path: Path) -> None:
    with recorded(CONFIG, trainer_in(tmp_path)):
        (told,) = attempts(tmp_path)
        assert told["state"] == "running"
        assert told["process"] == os.getpid()
        assert "ended" not in told


def test_attempts_of_a_run_are_kept_and_a_kill_is_seen(tmp_path: Path) -> None:
    run(tmp_path, 1, 9)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["attempts"][0]["ended"]
    record["attempts"][0]["state"] = "running"  # as a kill leaves it
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RuntimeError):
        run(tmp_path, 7, 8, RuntimeError("out of memory"))
    run(tmp_path, 9, 10, optim={"lr_initial": 0.2})
    killed, failed, finished = attempts(tmp_path)
    assert [one["state"] for one in (killed, failed, finished)] == ["killed", "failed", "finished"]
    assert [one.get("resumed_from_step") for one in (killed, failed, finished)] == [None, 6, 8]
    assert killed["config"] == failed["config"] != finished["config"]
    assert {path.name for path in tmp_path.glob("config-*.yml")} == {failed["config"], finished["config"]}


def test_what_is_no_record_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"run\.json is not the record of a run"):
        run(tmp_path)
    assert (tmp_path / "run.json").read_text() == "[]"


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["ev2", "fairchem", "--logger.api_key=another-key"])
    dataset = {"train": {"src": "s3://me:pass-word@bucket/data"}}
    with pytest.raises(RuntimeError):
        run(
            tmp_path,
            error=RuntimeError(f"refused: {KEY}"),
            logger={"name": "wandb", "api_key": "third-key"},
            dataset=dataset,
        )
    for path in tmp_path.iterdir():
        content = path.read_bytes().decode(errors="replace")
        for secret in (KEY, "another-key", "third-key", "pass-word"):
            assert secret not in content, path


def test_debugging_writes_nothing(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path / "logs", is_debug=True)
    trainer.logger.writer.close()
    with recorded(CONFIG, trainer):
        pass
    assert not (tmp_path / "logs" / "run.json").exists()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"timestamp_id": "yours", "run_dir": "elsewhere", "checkpoint": "a.pt", "slurm": {"job_id": 3}}, True),
        ({"logger": "wandb", "print_every": 1}, True),
        ({"seed": 8}, False),
        ({"optim": {"lr_initial": 0.2, "betas": [0.9, 0.99]}}, False),
        ({"world_size": 2}, False),
    ],
)
def test_the_digest_is_of_what_a_run_computes(change: dict[str, Any], same: bool) -> None:
    plain = as_plain(CONFIG)
    reordered = dict(reversed(list((plain | change).items())))
    assert (config_digest(plain) == config_digest(reordered)) == same


def test_the_digest_is_that_of_canonical_json() -> None:
    # sha256 of {"a":[1,2.5,null],"b":{"c":true,"d":"é"}} with the letter escaped, from another tool
    text = r'{"a":[1,2.5,null],"b":{"c":true,"d":"\u00e9"}}'
    expected = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True).stdout.split()[0]
    assert config_digest({"b": {"d": "é", "c": True}, "a": [1, 2.5, None], "run_dir": "x"}) == expected.decode()


def test_a_plain_copy_holds_what_yaml_can(tmp_path: Path) -> None:
    import numpy as np

    value = {"path": tmp_path, 3: np.float64(0.5), "t": (1, np.True_), "none": None, "i": np.int64(4), "x": {1}}
    plain = as_plain(value)
    assert plain == {"path": str(tmp_path), "3": 0.5, "t": [1, "True"], "none": None, "i": "4", "x": [1]}
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain


def stop_noting_marks(trainer: Any, marks: list[int]) -> None:
    with recorded(CONFIG, trainer):
        trainer.logger.mark_preempting = lambda: marks.append(len(trainer.logger.loggers))
        raise Stopped("stopped", signal.SIGUSR2)


def test_a_run_that_a_signal_stopped_is_marked_as_one_that_goes_on(tmp_path: Path) -> None:
    trainer, marks = trainer_in(tmp_path), []
    with pytest.raises(Stopped):
        stop_noting_marks(trainer, marks)
    assert marks == [2]  # before the loggers were closed
    trainer.logger.log({"loss": 1.0}, step=9, split="train")  # nothing listens any more
    assert attempts(tmp_path)[0]["state"] == "stopped"
