"""Run an `ev2` command again and again, each time killed a random while after its folder appears, until it ends.

A program of its own: it imports what commands need once and forks a process for each start, so that a start costs
little. Arguments: seed, number of kills, folder to watch, then the command. It prints how many starts were killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import ev2_plugin.integration.launcher
import ev2_plugin.integration.trainer
from ev2_plugin.cli.main import app

_ = ev2_plugin.integration.launcher, ev2_plugin.integration.trainer
PATIENCE = 120.0


def start(arguments: list[str]) -> int:
    """Fork a process that runs a command; its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        app(arguments, standalone_mode=False)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int) -> int | None:
    """Exit status of a process, None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Kill, restart, and let the last start end by itself."""
    seed, kills, folder, *arguments = sys.argv[1:]
    rng, killed = random.Random(int(seed)), 0
    while True:
        process, appeared = start(arguments), None
        delay = rng.uniform(0.0, 0.7)
        deadline = time.monotonic() + PATIENCE
        while (status := ended(process)) is None:
            now = time.monotonic()
            appeared = appeared or (now if Path(folder).exists() else None)
            if now > deadline or (killed < int(kills) and appeared and now > appeared + delay):
                os.kill(process, signal.SIGKILL)
            time.sleep(0.002)
        if status != -signal.SIGKILL or time.monotonic() > deadline:
            print(f"killed {killed}")
            sys.exit(status)
        killed += 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
