"""Inference of one structure of 100 to as many atoms as fit: time and peak memory of ours and the host's model.

A side stops where the next size, at its last cost per atom, would not fit the memory or would take too long.

Run: python benchmarks/bench_growth.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ase import Atoms
from rich.console import Console

from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.pairing import HOST, OURS, Contender, Setting, check, contenders, runs
from ev2_plugin.integration.timing import alternating
from harness import arguments, available_megabytes, peak_megabytes, prepare, result_file
from problems import RULE, settings, slab

NAME = "growth"
QUESTION = "How do time and memory of inference grow with the number of atoms (31M)?"
IDENTITY = ("atoms",)

SETTINGS = {
    "cpu": {"host": HOST, "ours": OURS, "ours, edge chunks": Setting({"edge_memory_mb": 64})},
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, edge chunks": Setting({"edge_memory_mb": 256}),
    },
}
SIDES = {"cpu": (5, 7, 10, 16), "cuda": (5, 10, 16, 22, 32, 50, 71, 100, 130, 159)}
"""Edges of the slabs in atoms: 102, 198, 402, 1026 atoms on a CPU, up to 101126 on a GPU."""
SAMPLES = {"cpu": 2, "cuda": 3}
SECONDS = {"cpu": 40.0, "cuda": 60.0}
"""The longest single call."""
SHARE_OF_MEMORY = 0.8
"""Of what is free, the most that a size may be expected to need."""


def measure(
    atoms: Atoms, previous: Mapping[str, Any] | None, found: Mapping[str, Contender], device: str, samples: int
) -> dict[str, Any]:
    """Compare, then time, one size; `previous` is the row of the size before."""
    batch = batch_with_edges([atoms], RULE, torch.float32).to(device)
    row: dict[str, Any] = {"model": "31M", "atoms": len(atoms), "edges": batch.edge_index.shape[1]}
    skipped = {name: why for name in found if (why := reason_to_skip(name, previous, len(atoms), device))}
    running = {name: one for name, one in found.items() if name not in skipped}
    if not running:
        return {**row, "compared_with": None, "agreement": {}, "peak_mb": {}, "seconds": {}, "skipped": skipped}
    agreement = check(running, batch, gradients=False)
    forwards = runs({n: one for n, one in running.items() if n not in agreement.too_large}, Contender.infer, batch)
    return {
        **row,
        "compared_with": agreement.reference,
        "agreement": agreement.deviations,
        "peak_mb": {name: peak_megabytes(run, device) for name, run in forwards.items()},
        "seconds": alternating(forwards, samples, device, warm=True),
        "skipped": skipped | dict.fromkeys(agreement.too_large, "memory ran out"),
    }


def reason_to_skip(name: str, previous: Mapping[str, Any] | None, atoms: int, device: str) -> str | None:
    """Why a size is not worth trying, judged by the size before; None if it is."""
    if previous is None:
        return None
    if name not in previous["seconds"]:
        return previous["skipped"][name]
    factor = atoms / previous["atoms"]
    memory, free = factor * previous["peak_mb"][name], available_megabytes(device)
    if memory > SHARE_OF_MEMORY * free:
        return f"would need about {memory / 1e3:.3g} GB, {free / 1e3:.3g} GB were free"
    duration = factor * previous["seconds"][name]["median"]
    return f"would take about {duration:.3g} s" if duration > SECONDS[device] else None


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__ or "", NAME).parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    found = contenders(settings("31M", small=args.smoke), SETTINGS[args.device], args.device)
    row: dict[str, Any] | None = None
    for side in (2, 3) if args.smoke else SIDES[args.device]:
        atoms = slab(side)
        Console().print(f"{len(atoms)} atoms")
        row = measure(atoms, row, found, args.device, samples=SAMPLES[args.device])
        file.add(row)
        if not row["seconds"]:
            break


if __name__ == "__main__":
    main()
