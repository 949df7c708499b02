"""`--trust`: without it no command executes what is in a file, with it the file is read as whoever wrote it meant."""

from __future__ import annotations

import pickle
from pathlib import Path

import lmdb
import pytest
import torch
from ase.build import bulk
from ase.io import write
from torch_geometric.data import Data
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers.attacks import Attack


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made"


def dataset(folder: Path, made: Path) -> Path:
    sample = Data(pos=torch.rand(2, 3), cell=10 * torch.eye(3)[None], atomic_numbers=torch.tensor([1, 8]), natoms=2)
    sample.tags, sample.fixed, sample.sid, sample.comment = torch.zeros(2), torch.zeros(2), 1, Attack(made)
    with lmdb.open(str(folder / "a.lmdb"), subdir=False) as env, env.begin(write=True) as transaction:
        transaction.put(b"0", pickle.dumps(sample))
    return folder / "a.lmdb"


def checkpoint(folder: Path, made: Path) -> Path:
    torch.save({"state_dict": {}, "config": {"model": {"name": "ev2", "x": Attack(made)}}}, folder / "c.pt")
    return folder / "c.pt"


def commands(folder: Path, made: Path) -> dict[str, list[str]]:
    weights, samples = str(checkpoint(folder, made)), str(dataset(folder, made))
    write(folder / "s.extxyz", bulk("Cu"))
    return {
        "inspect": ["data", "inspect", samples],
        "relax": ["relax", str(folder / "s.extxyz"), "--checkpoint", weights, "--out", str(folder / "out.extxyz")],
        "precision": ["precision", "--dataset", samples, "--checkpoint", weights],
        "convert": ["convert", weights, str(folder / "out.safetensors")],
    }


@pytest.mark.parametrize("name", ["inspect", "relax", "precision", "convert"])
def test_a_command_executes_nothing_unless_it_is_told_to_trust(tmp_path: Path, made: Path, name: str) -> None:
    arguments = commands(tmp_path, made)[name]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "it asks for posix.mkdir" in " ".join(refused.output.split())
    assert not made.exists()
    CliRunner().invoke(app, [*arguments, "--trust"])  # which may then fail for lack of a real model
    assert made.exists()
