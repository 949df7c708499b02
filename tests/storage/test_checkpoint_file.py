"""Checkpoints in one file: plain, and damage is seen."""

from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ev2_plugin.storage.checkpoint_file import DIGEST, plain, read_checkpoint, write_checkpoint

CONTENT: dict[str, Any] = {
    "state_dict": {"weight": torch.arange(60.0).view(3, 20), "none": torch.zeros(0)},
    "step": 3,
    "optimizer": {"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    "val_metrics": None,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "checkpoint.pt", CONTENT)
    return tmp_path / "checkpoint.pt"


def same(one: Any, other: Any) -> bool:
    """Whether contents agree in types, keys and bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_what_is_written_is_read(path: Path) -> None:
    assert same(read_checkpoint(path), CONTENT)


def test_it_loads_with_weights_only(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    assert len(content.pop(DIGEST)) == 64
    assert same(content, CONTENT)


def test_what_numpy_and_the_host_put_into_it_becomes_plain(tmp_path: Path) -> None:
    content = {
        "config": OrderedDict(folder=Path("logs/1"), rate=np.float64(0.5), shape=(np.int64(2), [True])),
        "metrics": defaultdict(dict, energy_mae={"total": np.float32(1.5), "values": np.arange(3)}),
    }
    write_checkpoint(tmp_path / "a.pt", content)
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert found["config"] == {"folder": "logs/1", "rate": 0.5, "shape": (2, [True])}
    assert found["metrics"]["energy_mae"]["total"] == 1.5
    assert found["metrics"]["energy_mae"]["values"].tolist() == [0, 1, 2]
    assert read_checkpoint(tmp_path / "a.pt")["config"] == found["config"]


def test_what_is_not_plain_is_refused_before_anything_is_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"cannot hold builtins\.object"):
        write_checkpoint(path, {"step": 4, "thing": object()})
    assert path.read_bytes() == before


def test_a_file_cut_off_anywhere_is_damaged(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)):
            read_checkpoint(path)


def test_a_changed_byte_is_seen_or_changes_nothing(path: Path) -> None:
    whole = path.read_bytes()
    messages = []
    for place in range(0, len(whole), 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert same(read_checkpoint(path), CONTENT)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(str(path) in message for message in messages)


def test_a_changed_weight_is_named_as_a_change(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"]["weight"][1, 1] += 1e-6
    torch.save(content, path)
    with pytest.raises(ValueError, match="has changed since it was written"):
        read_checkpoint(path)


def test_files_of_others_have_no_digest(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "a.pt")
    assert same(read_checkpoint(tmp_path / "a.pt"), CONTENT)


def test_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt is no checkpoint: it holds a list"):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "b.pt")


def test_plain_content_is_on_the_cpu_and_without_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    assert not plain({"weight": weight})["weight"].requires_grad
