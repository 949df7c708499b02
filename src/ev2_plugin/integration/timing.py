"""Time of two or more ways to the same answer: compared first, then in turn, medians and extremes."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

SAMPLE_SECONDS = 0.02
"""A sample of something faster than this is the mean of several calls."""

Run = Callable[[], object]


class DisagreementError(RuntimeError):
    """Answers that are too far apart for their times to mean anything."""


def require_agreement(deviations: Mapping[str, float], limit: float) -> dict[str, float]:
    """The deviations, if timing makes sense.

    Raises:
        DisagreementError: If one is not below the limit; a deviation that is not a number is not.
    """
    if not deviations or not all(value <= limit for value in deviations.values()):
        raise DisagreementError(
            f"the answers differ by more than {limit}, timing them would mean nothing: {deviations}"
        )
    return dict(deviations)


def synchronize(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(run: Run, device: str, calls: int = 1) -> float:
    """Mean time of several calls, the device's work included."""
    synchronize(device)
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def alternating(runs: Mapping[str, Run], repeats: int, device: str, *, warm: bool = False) -> dict[str, dict[str, Any]]:
    """Time all of them in turn.

    Args:
        runs: What to time, by name.
        repeats: Samples of each.
        device: Where they run.
        warm: Each has been called before; otherwise each is called once without being counted.

    Returns:
        For each name `median`, `low` and `high` (the extremes) in seconds, and the `samples` in the order taken.
    """
    calls: dict[str, int] = {}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        if not warm:
            run()
        first = seconds(run, device)
        calls[name] = min(math.ceil(SAMPLE_SECONDS / max(first, 1e-9)), 10_000)
        if calls[name] == 1:
            samples[name].append(first)
    while any(len(values) < repeats for values in samples.values()):
        for name, run in runs.items():
            if len(samples[name]) < repeats:
                samples[name].append(seconds(run, device, calls[name]))
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values), "samples": values}
        for name, values in samples.items()
    }


def machine(device: str) -> dict[str, Any]:
    """The device and the versions a figure depends on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    threads = torch.get_num_threads()
    packages = ("torch", "triton", "fairchem-core", "ev2-plugin")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{cpu}, {threads} thread{'s' * (threads > 1)}",
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "amx": "amx_tile" in Path("/proc/cpuinfo").read_text(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda if device == "cuda" else None,
        **{package: version(package) for package in packages},
    }
