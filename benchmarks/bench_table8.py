"""The architectures of the paper's Table 8: structures per second in inference and training, ours and the host's.

On a CPU the structures are smaller than elsewhere here, since there are twelve models.

Run: python benchmarks/bench_table8.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console

from bench_inference_training import timed
from ev2_plugin.integration.fidelity import batch_with_edges
from harness import ResultFile, arguments, prepare, result_file
from pairing import HOST, OURS, Contender, Setting, contenders
from problems import PAPER_TABLE_8, RULE, TABLE_8, settings, slab

NAME = "table8"
QUESTION = "How fast are the architectures of the paper's Table 8?"
IDENTITY = ("row", "task")

SETTINGS = {
    "cpu": {"host": HOST, "ours": OURS},
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
    },
}
BATCH = {"cpu": (2, 1), "cuda": (4, 8)}
"""Side of the slab in atoms (18 or 66 atoms) and slabs per batch."""
REPEATS = {"cpu": 3, "cuda": 10}


def measure(name: str, device: str, file: ResultFile, *, small: bool = False) -> None:
    """Compare, then time, one row."""
    side, size = (2, 1) if small else BATCH[device]
    batch = batch_with_edges([slab(side)] * size, RULE, torch.float32).to(device)
    found = contenders(settings("83M", small=small, **TABLE_8[name]), SETTINGS[device], device)
    hours, throughput = PAPER_TABLE_8[name]
    row: dict[str, Any] = {
        "row": name,
        "structures": size,
        "atoms": int(batch.natoms.sum()),
        "edges": batch.edge_index.shape[1],
        "parameters": sum(parameter.numel() for parameter in found["host"].model.parameters()),
        "paper": {"training_gpu_hours": hours, "inference_structures_per_s": throughput},
    }
    repeats = 2 if small else REPEATS[device]
    for task, method in (("inference", Contender.infer), ("training", Contender.train_step)):
        file.add({**row, "task": task, **timed(found, method, batch, repeats, device, gradients=task == "training")})


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__ or "", NAME).parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    for name in list(TABLE_8)[:3] if args.smoke else TABLE_8:
        Console().print(name)
        measure(name, args.device, file, small=args.smoke)


if __name__ == "__main__":
    main()
