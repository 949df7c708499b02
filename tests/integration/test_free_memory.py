"""What a process can still have, on this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ev2_plugin.integration.free_memory import free_memory, give_back


def test_what_is_allocated_is_not_free() -> None:
    give_back()
    before = free_memory(torch.device("cpu"))
    held = torch.ones(2**27)
    after = free_memory(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert before - after > held.nbytes / 2


def test_the_address_space_is_a_limit() -> None:
    program = (
        "import resource, torch; from ev2_plugin.integration.free_memory import free_memory\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, -1))\n"
        "print(free_memory(torch.device('cpu')))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(shown.stdout) == pytest.approx(1e9, rel=0.05)


def test_of_other_devices_nothing_is_known() -> None:
    assert free_memory(torch.device("meta")) is None
