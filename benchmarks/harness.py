"""What all benchmarks share: alternating runs, medians and spread, peak memory, the machine, results as JSON.

A benchmark times two or more ways to the same answer. It first calls `require_agreement` on how far the answers are
apart, then `alternating` on all of them together, and adds a row to its `ResultFile` as soon as it has one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
SAMPLE_SECONDS = 0.02
"""A sample of something faster than this is the mean of several calls."""
PAGE_MEGABYTES = 4.096e-3
"""Less memory than a page is not seen."""

Run = Callable[[], object]


def arguments(description: str, question: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, to see that everything runs")
    parser.add_argument("--out", type=Path, help=f"JSON file, default benchmarks/results/{question}_DEVICE.json")
    return parser


def prepare(args: argparse.Namespace) -> None:
    """Threads, quiet libraries, float32 products in float32 unless a model asks for less."""
    logging.disable(logging.WARNING)  # the host announces the deprecation of its flat model at every construction
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def require_agreement(deviations: Mapping[str, float], limit: float) -> dict[str, float]:
    """The deviations, if timing makes sense.

    Raises:
        RuntimeError: If one is not below the limit; a deviation that is not a number is not.
    """
    if not deviations or not all(value <= limit for value in deviations.values()):
        raise RuntimeError(f"the answers differ by more than {limit}, timing them would mean nothing: {deviations}")
    return dict(deviations)


def each(cases: Mapping[str, Callable[[], None]]) -> None:
    """Run all; one whose answers differ or whose memory runs out does not keep the others from running.

    Raises:
        SystemExit: At the end, if any failed.
    """
    failed = []
    for name, run in cases.items():
        print(name, flush=True)
        try:
            run()
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


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


def peak_megabytes(run: Run, device: str) -> float:
    """Memory (10^6 bytes) that one call needs on top of what is held before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return max((torch.cuda.max_memory_allocated() - before) / 1e6, PAGE_MEGABYTES)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier runs freed goes back to the system first
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of resident memory
    before = _kilobytes("/proc/self/status", "VmRSS")
    run()
    return max((_kilobytes("/proc/self/status", "VmHWM") - before) * 1.024e-3, PAGE_MEGABYTES)


def available_megabytes(device: str) -> float:
    """Memory (10^6 bytes) that is free."""
    if device == "cuda":
        torch.cuda.empty_cache()  # what torch holds without using it is free too
        return torch.cuda.mem_get_info()[0] / 1e6
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1.024e-3


def _kilobytes(file: str, key: str) -> int:
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{file} has no {key}")


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


def commit() -> str:
    """The short hash, with `+` if the sources differ from it."""
    head, changes = (
        subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no", "src"))
    )
    return f"{head}+" if changes else head


@dataclass(frozen=True)
class ResultFile:
    """Rows of one benchmark on one machine, written as they come.

    A row replaces an older one of the same identity; rows of another machine or other versions are dropped.

    Attributes:
        path: JSON file.
        question: What the benchmark answers, one line.
        identity: Keys of a row that tell it from the others.
        machine: Where it runs.
    """

    path: Path
    question: str
    identity: tuple[str, ...]
    machine: Mapping[str, Any]

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, with the commit it was measured at.

        Raises:
            ValueError: If a part of the identity is missing.
        """
        missing = [key for key in self.identity if key not in row]
        if missing:
            raise ValueError(f"a row of {self.path.name} must have {list(self.identity)}; missing: {missing}")
        rows = [old for old in self._rows() if any(old.get(key) != row[key] for key in self.identity)]
        rows.append({**row, "commit": commit()})
        content = {"question": self.question, "machine": dict(self.machine), "rows": rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        scratch.replace(self.path)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        old = json.loads(self.path.read_text(encoding="utf-8"))
        return old["rows"] if old["machine"] == dict(self.machine) else []


def result_file(args: argparse.Namespace, name: str, question: str, identity: tuple[str, ...]) -> ResultFile:
    """Where the rows of a benchmark go; those of a smoke run only where `--out` says."""
    if args.smoke and args.out is None:
        raise ValueError("--smoke measures nothing worth keeping: give --out, a file elsewhere")
    path = args.out or RESULTS / f"{name}_{args.device}.json"
    return ResultFile(path, question, identity, machine(args.device))
