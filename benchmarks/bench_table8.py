"""The architectures of the paper's Table 8: structures per second in inference and training, ours and the host's.

On a CPU the structures are smaller than elsewhere here and the models have fewer blocks, since there are ten of them.

Run: python benchmarks/bench_table8.py [--device cuda] [--threads 2]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from bench_inference_training import compared_and_timed
from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.pairing import HOST, OURS, Setting, contenders
from harness import ResultFile, arguments, each, prepare, result_file
from problems import PAPER_TABLE_8, RULE, SHAPES, TABLE_8, settings, slab

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
BLOCKS = {"cpu": 4, "cuda": None}
"""Transformer blocks; None for as many as the row has. Time and memory are proportional to them."""
SAMPLES = {"cpu": 3, "cuda": 10}


def measure(name: str, device: str, file: ResultFile, *, small: bool = False) -> None:
    """Compare, then time, one row."""
    side, size = (2, 1) if small else BATCH[device]
    batch = batch_with_edges([slab(side)] * size, RULE, torch.float32).to(device)
    full = settings("83M", small=small, **TABLE_8[name])
    blocks = BLOCKS[device] or full["num_layers"]
    found = contenders({**full, "num_layers": blocks}, SETTINGS[device], device)
    samples = dict.fromkeys(("inference", "training"), SAMPLES[device])
    hours, throughput = PAPER_TABLE_8[name]
    common: dict[str, Any] = {
        "row": name,
        "structures": size,
        "atoms": int(batch.natoms.sum()),
        "edges": batch.edge_index.shape[1],
        "blocks": blocks,
        "blocks_of_row": full["num_layers"],
        "paper": {"training_gpu_hours": hours, "inference_structures_per_s": throughput},
    }
    for task, row in compared_and_timed(found, dict.fromkeys(samples, tuple(found)), batch, samples, device):
        file.add({**common, "task": task, **row})


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__ or "", NAME).parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    names = list(TABLE_8)[:3] if args.smoke else list(TABLE_8)
    if BLOCKS[args.device] is not None:  # the two that differ from others in depth alone
        names = [name for name in names if name not in SHAPES]
    each({name: partial(measure, name, args.device, file, small=args.smoke) for name in names})


if __name__ == "__main__":
    main()
