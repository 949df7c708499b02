"""What a process can still have: files of the kernel as systems show them."""

from __future__ import annotations

from pathlib import Path

from ev2_plugin.machine.memory import left_in_groups


def write(path: Path, **files: object) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(f"{content}\n", encoding="utf-8")


def test_groups_of_the_second_version(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    membership.write_text("0::/slurm/job\n")
    write(root / "slurm", memory__max=1000, memory__current=300)
    write(root / "slurm/job", memory__max="max", memory__current=200)
    assert list(left_in_groups(root, membership)) == [700]
    write(root / "slurm/job", memory__max=500, memory__current=450, memory__stat="anon 1\ninactive_file 70")
    assert sorted(left_in_groups(root, membership)) == [120, 700]


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    membership.write_text("5:cpu:/job\n4:memory:/job\n0::/\n")
    write(root / "memory/job", memory__limit_in_bytes=900, memory__usage_in_bytes=100)
    write(root / "memory/job", memory__stat="inactive_file 5\ntotal_inactive_file 20")
    assert list(left_in_groups(root, membership)) == [820]


def test_a_container_that_shows_its_own_group_as_the_root(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("0::/seen/from/outside\n")
    write(tmp_path / "cgroup", memory__max=64, memory__current=100)
    assert list(left_in_groups(tmp_path / "cgroup", membership)) == [0]


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(left_in_groups(tmp_path, tmp_path / "none")) == []
