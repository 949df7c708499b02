"""What real runs log: wandb without account and network, TensorBoard, two ranks, a kill in the middle."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from ev2_plugin.storage.metrics_log import read_entries, read_rows
from helpers import tiny_s2ef

pytestmark = pytest.mark.cluster

MINUTES = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `run.yml` and the data it trains on, two steps an epoch."""
    dataset = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    content = tiny_s2ef.config(dataset, tiny_s2ef.FLAT_MODEL, "ev2_plugin.Trainer")
    del content["dataset"]["test"], content["logger"]
    content["optim"]["load_balancing"] = None
    tiny_s2ef.write_config(tmp_path / "run.yml", content)
    return tmp_path


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Address of a proxy for every request to the network, and the requests it saw."""
    seen: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            seen.append(connection.recv(200))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def start(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """`ev2 fairchem` as a user without accounts at a terminal."""
    terminal, keyboard = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "NETRC"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ev2_plugin", "fairchem", "--mode", "train", "--config-yml", "run.yml", "--cpu"),
            *("--timestamp-id", "run", "--print-every", "1", "--hide_eval_progressbar=True", *arguments),
        ],
        cwd=folder,
        env={**clean, "HOME": str(folder), "OMP_NUM_THREADS": "1", **environment},
        stdin=keyboard,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(keyboard)
    os.close(terminal)
    return process


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """The same to its end; returns what it said."""
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=6 * MINUTES)
    assert process.returncode == 0, out[-2000:] + err[-4000:]
    return out + err


def records(path: Path) -> Iterator[Record]:
    """Records of wandb's file: blocks of 32 KiB with chunks of LevelDB's log format, after a header of 7 bytes."""
    data, position, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        room = 2**15 - position % 2**15
        if room < 7:  # too little for another chunk
            position += room
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        if kind == 0:
            return
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def history(path: Path) -> dict[int, dict[str, Any]]:
    """Metrics by step."""
    by_step: dict[int, dict[str, Any]] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            by_step.setdefault(record.history.step.num, {}).update(items)
    return by_step


def logged_settings(path: Path) -> dict[str, Any]:
    """The config that a run was started with."""
    (settings,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
    return {item.key: json.loads(item.value_json) for item in settings.config.update}


def attempts(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "run.json").read_text())["attempts"]


SINGLETON = ("--logger.name=wandb_singleton", "--logger.project=ev2", "--logger.entity=me")


@pytest.mark.parametrize("logger", [("--logger=wandb",), SINGLETON], ids=["wandb", "wandb_singleton"])
def test_wandb_without_an_account_is_offline_and_can_be_synced(
    folder: Path, logger: tuple[str, ...], proxy: tuple[str, list[bytes]]
) -> None:
    address, requests = proxy
    network = {name: address for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")}
    said = run(folder, *logger, "--optim.max_epochs=2", **network)
    assert "no account is configured" in said
    assert not re.search(r"^wandb: (?!to upload)", said, re.MULTILINE)
    run(folder, *logger, "--optim.max_epochs=3", **network)
    assert not requests

    (logs,) = folder.glob("logs/*/run")
    first, second = sorted(logs.glob("wandb/offline-run-*-run/run-run.wandb"))
    settings = logged_settings(first)
    assert settings["optim"]["lr_initial"] == 0.0004
    assert settings["model"]["num_layers"] == 1
    ours = {row.step: row for row in read_rows(logs / "metrics.jsonl", "train")}
    theirs = {step: values for part in (first, second) for step, values in history(part).items()}
    assert list(ours) == [1, 2, 3, 4, 5, 6]
    for step, row in ours.items():
        for name, value in row.values.items():
            assert theirs[step][f"train/{name}"] == pytest.approx(value, rel=1e-12), (step, name)
    for row in read_rows(logs / "metrics.jsonl", "val"):
        assert theirs[row.step]["val/forces_mae"] == pytest.approx(row.values["forces_mae"], rel=1e-12)
    assert min(history(second)) == 5  # the same run went on

    sync = [sys.executable, "-m", "wandb", "sync", "--dry-run", *(str(part.parent) for part in (first, second))]
    told = subprocess.run(sync, cwd=folder, env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True)
    assert "Would sync 2 run(s)" in told.stdout + told.stderr
    assert [one["state"] for one in attempts(logs)] == ["finished", "finished"]
    assert attempts(logs)[1]["resumed_from_step"] == 4


def test_tensorboard_has_every_step_once_after_a_resume(folder: Path) -> None:
    for epochs in (2, 3):
        run(folder, "--logger=tensorboard", f"--optim.max_epochs={epochs}")
    logs = folder / "logs" / "tensorboard" / "run"
    events = EventAccumulator(str(logs))
    events.Reload()
    rows = list(read_rows(logs / "metrics.jsonl", "train"))
    assert [event.step for event in events.Scalars("train/loss")] == [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([row.values["loss"] for row in rows], rel=1e-6)


def test_only_rank_0_writes_and_speaks(folder: Path) -> None:
    said = run(folder, "--num-gpus", "2", "--optim.max_epochs=2", "--optim.batch_size=1", "--logger=tensorboard")
    logs = folder / "logs" / "tensorboard" / "run"
    assert len(list(logs.glob("events.out.tfevents.*"))) == 1
    assert [row.step for row in read_rows(logs / "metrics.jsonl", "train")] == [1, 2, 3, 4]
    assert len(list(read_entries(logs / "metrics.jsonl"))) == 2 * 4 + 2  # norms, steps, validations
    (told,) = attempts(logs)
    assert told["ranks"] == len(told["places"]) == 2
    assert said.count("Evaluating on val") == 2
    assert said.count("step: 1.00e+00") == 1
    assert "rank 1:" not in said


def test_a_run_killed_at_any_moment_has_every_step_once(folder: Path) -> None:
    logs = folder / "logs" / "local" / "run"
    process = start(folder, "--optim.max_epochs=400", "--optim.checkpoint_every=3")
    deadline = time.monotonic() + 5 * MINUTES
    while not (logs / "metrics.jsonl").exists() or len(list(read_entries(logs / "metrics.jsonl"))) < 40:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    reached = max(row.step for row in read_rows(logs / "metrics.jsonl", "train"))
    assert attempts(logs)[0]["state"] == "running"

    last = reached // 2 * 2 + 6
    run(folder, f"--optim.max_epochs={last // 2}", "--optim.checkpoint_every=3")
    assert [row.step for row in read_rows(logs / "metrics.jsonl", "train")] == list(range(1, last + 1))
    table = (logs / "train.csv").read_text().splitlines()
    assert [int(line.partition(",")[0]) for line in table[1:]] == list(range(1, last + 1))
    killed, finished = attempts(logs)
    assert (killed["state"], finished["state"]) == ("killed", "finished")
    assert 0 < finished["resumed_from_step"] <= reached
    assert finished["resumed_from_step"] % 3 == 0
