"""The published ground truth: its layout, and pickles that hold more than data."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ev2_plugin.adsorbml.oc20_dense import read_oc20_dense
from ev2_plugin.adsorbml.records import Target
from ev2_plugin.adsorbml.tables import read_table, write_table

TARGETS: dict[str, Any] = {
    "6_1134_23": [("rand11", -1.25), ("heur3", np.float64(-0.5))],
    "7_6566_62": [("rand0", 0.0)],
}
COMPUTE: dict[str, Any] = {
    "6_1134_23": {
        "surface": {"ionic": 9, "scf": 900},
        "heur3": {"ionic": 30, "scf": 400},
        "rand11": {"ionic": np.int64(50), "scf": np.int64(700)},
        "rand12": {"ionic": 70, "scf": 1000},
    },
    "8_1_1": {"rand1": {"ionic": 5, "scf": 60}},
}


def written(folder: Path, targets: Any = TARGETS, compute: Any = COMPUTE, protocol: int = 4) -> tuple[Path, Path]:
    for name, content in (("targets", targets), ("compute", compute)):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    return folder / "targets.pkl", folder / "compute.pkl"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_energies_and_steps_become_a_table(tmp_path: Path, protocol: int) -> None:
    lists = collections.defaultdict(list, TARGETS)
    found = read_oc20_dense(*written(tmp_path, lists, protocol=protocol))
    assert found == [
        Target("6_1134_23", "heur3", -0.5, 400, 30),
        Target("6_1134_23", "rand11", -1.25, 700, 50),
        Target("6_1134_23", "rand12", None, 1000, 70),
        Target("7_6566_62", "rand0", 0.0, 0, 0),
        Target("8_1_1", "rand1", None, 60, 5),
    ]
    write_table(tmp_path / "targets.csv", found, Target)
    assert read_table(tmp_path / "targets.csv", Target) == found


class Attack:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["targets", "compute"])
def test_a_pickle_that_would_execute_something_is_refused(tmp_path: Path, place: str) -> None:
    made = tmp_path / "made"
    files = written(tmp_path, **{place: {"system": [Attack(made)]}})
    with pytest.raises(ValueError, match=rf"{place}.pkl is refused: it asks for posix.mkdir"):
        read_oc20_dense(*files)
    assert not made.exists()
    pickle.loads((tmp_path / f"{place}.pkl").read_bytes())
    assert made.exists(), "the attack should work where nothing stops it"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:-5])
    with pytest.raises(ValueError, match="targets.pkl cannot be read"):
        read_oc20_dense(*files)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": [1]}, "holds a list"),
        ({"targets": {"s": {"rand1": -1.0}}}, "'s' has a dict, not a list"),
        ({"targets": {"s": [("rand1", -1.0, 2)]}}, "not a configuration and its energy"),
        ({"targets": {"s": [("rand1", None)]}}, "'rand1' is None"),
        ({"targets": {"s": [("rand1", float("nan"))]}}, "'rand1' is nan"),
        ({"targets": {"s": [("rand1", -1.0), ("rand1", -2.0)]}}, "'rand1' twice"),
        ({"compute": {"s": [1]}}, "'s' has a list, not a mapping"),
        ({"compute": {"s": {"rand1": {"ionic": 3}}}}, "numbers of 'scf' and 'ionic'"),
        ({"compute": {"s": {"rand1": 3}}}, "numbers of 'scf' and 'ionic'"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_oc20_dense(*written(tmp_path, **wrong))
