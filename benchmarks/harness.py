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
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ev2_plugin.integration.timing import Run, machine

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE_MEGABYTES = 4.096e-3
"""Less memory than a page is not seen."""


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
