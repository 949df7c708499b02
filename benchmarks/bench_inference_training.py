"""Inference and training step of ours and the host's model: time and peak memory over models and batch sizes.

Run: python benchmarks/bench_inference_training.py [--device cuda] [--only 31M] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch_geometric.data import Batch

from ev2_plugin.integration.fidelity import batch_with_edges
from ev2_plugin.integration.pairing import HOST, OURS, Agreement, Contender, Setting, check, contenders, runs
from ev2_plugin.integration.timing import alternating
from harness import ResultFile, arguments, each, peak_megabytes, prepare, result_file
from problems import RULE, settings, slab

NAME = "inference_training"
QUESTION = "How long do inference and a training step take, and how much memory on top of weights and optimiser state?"
IDENTITY = ("model", "batch_size", "task")

CHUNKS, EDGES, BLOCKS, BF16 = "ours, edge chunks", "ours, edges again", "ours, blocks again", "ours, bf16"
INFERENCE = {
    "cpu": {"host": HOST, "ours": OURS, CHUNKS: Setting({"edge_memory_mb": 64}), BF16: Setting({"precision": "bf16"})},
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "host, bf16": Setting(None, torch.bfloat16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
        BF16: Setting({"precision": "bf16"}),
        "ours, fp16 autocast": Setting({}, torch.float16),
        CHUNKS: Setting({"edge_memory_mb": 256}),
    },
}
TRAINING = {
    "cpu": {
        "host": HOST,
        "ours": OURS,
        EDGES: Setting({"activation_checkpoint": "edges"}),
        BLOCKS: Setting({"activation_checkpoint": "block"}),
    },
    "cuda": {
        "host": HOST,
        "host, fp16": Setting(None, torch.float16),
        "host, bf16": Setting(None, torch.bfloat16),
        "ours": OURS,
        "ours, high": Setting({"precision": "high"}),
        "ours, tf32": Setting({"precision": "tf32"}),
        BF16: Setting({"precision": "bf16"}),
        "ours, fp16 autocast": Setting({}, torch.float16),
        EDGES: Setting({"activation_checkpoint": "edges"}),
        "ours, high, edges again": Setting({"precision": "high", "activation_checkpoint": "edges"}),
        BLOCKS: Setting({"activation_checkpoint": "block"}),
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
        Case("31M", 1, 5, 3),
        Case("31M", 2, 3, 3, (CHUNKS, BF16, EDGES, BLOCKS)),
        Case("31M", 4, 3, 0, (CHUNKS, BF16)),
        Case("83M", 1, 3, 3, (CHUNKS, BF16, BLOCKS)),
        Case("86M-OMat", 1, 3, 2, (CHUNKS, BF16, BLOCKS)),
        Case("153M", 1, 2, 2, (CHUNKS, BF16, EDGES, BLOCKS)),
    ),
    "cuda": tuple(
        Case(model, size, 10, 10)
        for model, sizes in {
            "31M": (1, 4, 16, 64), "83M": (1, 4, 16), "86M-OMat": (1, 4, 16), "153M": (1, 4, 8),
        }.items()
        for size in sizes
    ),
}  # fmt: skip
"""On a CPU as much as fits twenty minutes; there the host's training step takes 10 to 50 s."""

SMOKE = (Case("31M", 2, 2, 2), Case("86M-OMat", 1, 2, 2))


def measure(case: Case, device: str, file: ResultFile, *, small: bool = False) -> None:
    """Compare, then time, one case."""
    slabs = [slab(2 if small else 4)] * case.batch_size
    batch = batch_with_edges(slabs, RULE, torch.float32).to(device)
    samples = {"inference": case.inference, "training": case.training}
    ways = {
        task: {name: way for name, way in of_device[device].items() if name not in case.without}
        for task, of_device in (("inference", INFERENCE), ("training", TRAINING))
        if samples[task]
    }
    every = {name: way for of_task in ways.values() for name, way in of_task.items()}
    found = contenders(settings(case.model, small=small), every, device)
    common = {
        "model": case.model,
        "batch_size": case.batch_size,
        "atoms": int(batch.natoms.sum()),
        "edges": batch.edge_index.shape[1],
    }
    for task, row in compared_and_timed(found, ways, batch, samples, device):
        file.add({**common, "task": task, **row})


def compared_and_timed(
    found: Mapping[str, Contender],
    ways: Mapping[str, Iterable[str]],
    batch: Batch,
    samples: Mapping[str, int],
    device: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Agreement, peak memory and times of inference and training.

    Outputs and gradients are compared at once. If memory does not suffice for that everywhere, inference is compared
    apart from training.

    Args:
        found: All contenders.
        ways: Those of each task, `inference` and `training`; a task may be absent.
        batch: What they run on.
        samples: Of each task.
        device: Where they run.

    Yields:
        Each task with its row. Contenders for which memory runs out are named in the row.
    """
    agreement = check(found, batch, gradients="training" in ways)
    if agreement.too_large and "inference" in ways:
        alone = {name: found[name] for name in ways["inference"]}
        apart = check(alone, batch, gradients=False)
        yield "inference", _timed("inference", alone, apart, batch, samples["inference"], device)
        ways = {task: names for task, names in ways.items() if task == "training"}
    for task, names in ways.items():
        of_task = {name: found[name] for name in names}
        yield task, _timed(task, of_task, agreement, batch, samples[task], device)


def _timed(
    task: str, found: Mapping[str, Contender], agreement: Agreement, batch: Batch, samples: int, device: str
) -> dict[str, Any]:
    method = Contender.infer if task == "inference" else Contender.train_step
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
        "agreement": {name: value for name, value in agreement.deviations.items() if name in fitting},
        "peak_mb": memory,
        "seconds": alternating(runs(fitting, method, batch), samples, device, warm=True),
        "out_of_memory": [name for name in found if name not in fitting],
    }


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__ or "", NAME)
    parser.add_argument("--only", help="one model, for example 31M")
    args = parser.parse_args(argv)
    prepare(args)
    file = result_file(args, NAME, QUESTION, IDENTITY)
    chosen = [case for case in (SMOKE if args.smoke else CASES[args.device]) if args.only in (None, case.model)]
    each(
        {
            f"{case.model}, {case.batch_size} structures": partial(measure, case, args.device, file, small=args.smoke)
            for case in chosen
        }
    )


if __name__ == "__main__":
    main()
