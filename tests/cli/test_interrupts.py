"""Ctrl-C at a terminal goes to all processes of a command: one of them answers, with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
def test_ctrl_c_ends_the_shards_of_a_campaign_with_one_line(tmp_path: Path) -> None:
    ev2 = [sys.executable, "-m", "ev2_plugin", "adsorbml"]
    place = ["place", "campaign", "--slab", "Cu:111:2x2x2", "--adsorbate", "*O", "--sites", "3", "--min-width", "5"]
    subprocess.run([*ev2, *place], cwd=tmp_path, check=True, capture_output=True)
    relax = ["relax", "campaign", "--calculator", "emt", "--shards", "2", "--steps", "1000000", "--fmax", "0"]
    process = subprocess.Popen(
        [*ev2, *relax], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(_shards(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # they import what they need: a traceback of one of them would be seen
    shards = _shards(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    said = [line for line in errors.splitlines() if not line.startswith("relax: ")]
    assert said == ["stopped; what is relaxed is kept: the same command goes on with what is left"]
    assert len(shards) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in shards)


def _shards(parent: int) -> list[int]:
    """Processes that were spawned to work, without the one that tracks resources."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if Path(f"/proc/{pid}").exists()}
    return [int(pid) for pid, command in commands.items() if b"spawn_main" in command]
