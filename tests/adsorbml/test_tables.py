"""Tables are read back as they were written, and errors name file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from ev2_plugin.adsorbml.campaign import structure_id, system_and_config
from ev2_plugin.adsorbml.records import RankedConfiguration, RelaxedConfiguration, SinglePoint, Target
from ev2_plugin.adsorbml.tables import read_table, write_table

POINTS = [
    SinglePoint("Cu, 111", "heuristic-000", -0.1 - 0.2, 31, 1, True),
    SinglePoint("6_1134_23", "random-001", None, 0, 0, False),
    SinglePoint("true", "1e5", 1e-300, 7, 1, True),
]


def test_tables_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, POINTS, SinglePoint)
    assert read_table(path, SinglePoint) == POINTS
    flags = RelaxedConfiguration("s", "c", 0.5, 0.02, 300, False, True, False, True, False, False)
    write_table(path, [flags], RelaxedConfiguration)
    assert read_table(path, RelaxedConfiguration) == [flags]
    assert path.read_text().splitlines()[0].startswith("system,config,energy,fmax,steps,converged,dissociated,")
    write_table(path, [], Target)
    assert read_table(path, Target) == []


def test_columns_may_stand_in_any_order_and_be_more(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("remark,config,system,ionic_steps,scf_steps,energy\nhand-made,c,s,4,50,-1.5\n")
    assert read_table(path, Target) == [Target("s", "c", -1.5, 50, 4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("s,1,c,nan", "line 3: energy is 'nan'; it should be a finite number"),
        ("s,1,c,", "line 3: energy is ''"),
        ("s,one,c,1.0", "line 3: rank is 'one'; it should be a whole number"),
        ("s,-1,c,1.0", "line 3: rank is '-1'"),
        (",1,c,1.0", "line 3: system is empty"),
        ("s,1,c", "line 3: there is no field for energy"),
        ("s,2,first,2.0", "line 3: system 's' has configuration 'first' twice"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"system,rank,config,energy\ns,1,first,1.0\n{line}\n")
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, RankedConfiguration)
    assert str(path) in str(caught.value)


def test_wrong_flags_and_missing_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("system,config,energy,scf_steps,ionic_steps,converged\ns,c,1.0,2,3,maybe\n")
    with pytest.raises(ValueError, match="converged is 'maybe'; it should be true or false"):
        read_table(path, SinglePoint)
    with pytest.raises(ValueError, match="there are no columns rank"):
        read_table(path, RankedConfiguration)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Target("s", "c", float("inf"), 1, 1)], "energy is inf"),
        ([Target("s", "c", 1.0, 1, 1), Target("s", "c", 2.0, 1, 1)], "'c' twice"),
    ],
)
def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, rows: list[Target], message: str) -> None:
    path = tmp_path / "table.csv"
    old = [Target("s", "old", 1.0, 1, 1)]
    write_table(path, old, Target)
    with pytest.raises(ValueError, match=message):
        write_table(path, rows, Target)
    assert read_table(path, Target) == old
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_names_of_structures() -> None:
    assert structure_id("Cu-a3.6", "random-001") == "Cu-a3.6.random-001"
    assert system_and_config("Cu-a3.6.random-001") == ("Cu-a3.6", "random-001")
    for system, config in (("s", "a.b"), ("", "c"), ("s", ""), ("s/t", "c"), (" s", "c")):
        with pytest.raises(ValueError, match="system|config"):
            structure_id(system, config)
    for wrong in ("none", ".c", "s."):
        with pytest.raises(ValueError, match="<system>.<config>"):
            system_and_config(wrong)
