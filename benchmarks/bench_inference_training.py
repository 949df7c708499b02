"""Inference and training step of ours and the host's model: time and peak memory over models and batch sizes.

Run: python benchmarks/bench_inference_training.py [--device cuda] [--only 31M] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch_geometric.data import Batch

from ev2_plugin.integration.fidelity import batch_with_edges
from harness import ResultFile, alternating, arguments, peak_megabytes, prepare, result_file
from pairing import HOST, OURS, Contender, Setting, check, contenders, runs
from problems import RULE, settings, slab

NAME = "inference_training"
QUESTION = "How long do inference and a training step take, and how much memory on top of weights and optimiser state?"
IDENTITY = ("model", "batch_size", "task")

INFERENCE = {
    "cpu": {"host": HOST, "ours": OURS, "ours, edge chunks": Setting({"edge_memory_mb": 64})},
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "host, bf16": Setting(None, torch.bfloat16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
        "ours, bf16": Setting({"precision": "bf16"}),
        "ours, fp16 autocast": Setting({}, torch.float16),
        "ours, edge chunks": Setting({"edge_memory_mb": 1024}),
    },
}
TRAINING = {
    "cpu": {
        "host": HOST,
        "ours": OURS,
        "ours, edges again": Setting({"activation_checkpoint": "edges"}),
        "ours, blocks again": Setting({"activation_checkpoint": "block"}),
    },
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "host, bf16": Setting(None, torch.bfloat16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
        "ours, bf16": Setting({"precision": "bf16"}),
        "ours, fp16 autocast": Setting({}, torch.float16),
        "ours, edges again": Setting({"activation_checkpoint": "edges"}),
        "ours, high, edges again": Setting({"precision": "high", "activation_checkpoint": "edges"}),
        "ours, blocks again": Setting({"activation_checkpoint": "block"}),
    },
}
"""Ways to run the model; "again" is what is computed a second time in the backward pass instead of being kept."""


@dataclass(frozen=True)
class Case:
    """One model on one batch.

    Attributes:
        model: A name in `problems.SHAPES`.
        batch_size: Slabs of 66 atoms.
        inference: Samples of each inference, 0 for none.
        training: Samples of each training step, 0 for none.
        without: Ways that are left out, to save time.
    """

    model: str
    batch_size: int
    inference: int
    training: int
    without: tuple[str, ...] = ()


CASES = {
    "cpu": (
        Case("31M", 1, 5, 5),
        Case("31M", 2, 5, 3, ("ours, blocks again",)),
        Case("31M", 4, 3, 0),
        Case("83M", 1, 3, 3, ("ours, blocks again",)),
        Case("86M-OMat", 1, 3, 3, ("ours, blocks again",)),
        Case("153M", 1, 3, 3, ("ours, blocks again",)),
    ),
    "cuda": tuple(
        Case(model, size, 10, 10)
        for model, sizes in {
            "31M": (1, 4, 16, 64), "83M": (1, 4, 16), "86M-OMat": (1, 4, 16), "153M": (1, 4, 8),
        }.items()
        for size in sizes
    ),
}  # fmt: skip
"""On a CPU as much as fits about a quarter of an hour; the host's training step takes 10 to 50 s there."""

SMOKE = (Case("31M", 2, 2, 2), Case("86M-OMat", 1, 2, 2))


def measure(case: Case, device: str, file: ResultFile, *, small: bool = False) -> None:
    """Compare, then time, one case."""
    section, slabs = settings(case.model, small=small), [slab(2 if small else 4)] * case.batch_size
    batch = batch_with_edges(slabs, RULE, torch.float32).to(device)
    common = {
        "model": case.model,
        "batch_size": case.batch_size,
        "atoms": int(batch.natoms.sum()),
        "edges": batch.edge_index.shape[1],
    }
    tasks: tuple[tuple[str, int, Mapping[str, Setting], Callable[[Contender, Batch], None]], ...] = (
        ("inference", case.inference, INFERENCE[device], Contender.infer),
        ("training", case.training, TRAINING[device], Contender.train_step),
    )
    for task, repeats, ways, method in tasks:
        if repeats:
            wanted = {name: way for name, way in ways.items() if name not in case.without}
            found = contenders(section, wanted, device)
            row = {**common, "task": task, "repeats": repeats}
            file.add({**row, **timed(found, method, batch, repeats, device, gradients=task == "training")})


def timed(
    found: Mapping[str, Contender],
    method: Callable[[Contender, Batch], None],
    batch: Batch,
    repeats: int,
    device: str,
    *,
    gradients: bool,
) -> dict[str, Any]:
    """Agreement, peak memory and times of all contenders; those for which memory runs out are named."""
    agreement = check(found, batch, gradients=gradients)
    fitting = {name: one for name, one in found.items() if name not in agreement.too_large}
    memory: dict[str, float] = {}
    for name, run in runs(fitting, method, batch).items():
        fitting[name].release()
        try:
            memory[name] = peak_megabytes(run, device)
        except torch.cuda.OutOfMemoryError:
            del fitting[name]
    return {
        "compared_with": agreement.reference,
        "agreement": agreement.deviations,
        "peak_mb": memory,
        "seconds": alternating(runs(fitting, method, batch), repeats, device, warm=True),
        "out_of_memory": [name for name in found if name not in fitting],
    }


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__ or "", NAME)
    parser.add_argument("--only", help="one model, for example 31M")
    args = parser.parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    console = Console()
    for case in SMOKE if args.smoke else CASES[args.device]:
        if args.only in (None, case.model):
            console.print(f"{case.model}, {case.batch_size} structures")
            measure(case, args.device, file, small=args.smoke)


if __name__ == "__main__":
    main()
