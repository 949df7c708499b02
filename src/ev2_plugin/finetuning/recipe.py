"""The settings of OMat24's fine-tuning, and what becomes of them on less data.

Source: the host's `configs/omat24/finetune`: 256 structures a step, learning rate 2e-4, 16 epochs, loss weights 2.5 for
the mean absolute error of the energy per atom and 10 for the length of the force error, AdamW with weight decay 1e-3,
gradients clipped at a norm of 100, weights averaged with 0.999, warm-up of 0.01 epochs, cosine down to 0.01. These were
made for millions of structures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ev2_plugin.finetuning.request import Request

BATCH, EMA, WARMUP_EPOCHS = 256, 0.999, 0.01
STEPS_PER_EPOCH = 20
"""At least, if the batch is ours to choose."""
WARMUP_SHARE, AVERAGED_SHARE = 0.05, 0.1
"""Of the training: its warm-up, and the steps over which weights are averaged."""
MICRO_BATCH = 8
"""Structures per process and forward pass at most; the rest of a step is accumulated."""
WORKERS_FROM, WORKERS = 2000, 4


@dataclass(frozen=True)
class Settings:
    """The `optim` section of a fine-tuning.

    Attributes:
        optim: The section.
        steps: Optimiser steps, if nothing ends them early.
        losses: The `loss_functions` section.
        notes: What differs from OMat24's fine-tuning and why, a sentence each.
    """

    optim: dict[str, Any]
    steps: int
    losses: list[dict[str, Any]]
    notes: tuple[str, ...]


def settings(request: Request, structures: int) -> Settings:
    """Fit the recipe to a number of training structures.

    Args:
        request: What is asked for.
        structures: In the training split.

    Raises:
        ValueError: If the batch size that is asked for cannot be shared by the processes.
    """
    notes = []
    ranks = request.num_gpus
    batch = request.batch_size or _batch(structures, ranks)
    if batch % ranks:
        raise ValueError(f"--batch-size {batch} cannot be shared by {ranks} processes: give a multiple of {ranks}")
    if request.batch_size is None and batch < BATCH:
        notes.append(
            f"steps of {batch} instead of {BATCH} structures: an epoch of {structures} structures has "
            f"{math.ceil(structures / batch)} of them"
        )
    micro = max(size for size in range(1, MICRO_BATCH + 1) if (batch // ranks) % size == 0)
    per_epoch = structures / batch
    batches = math.ceil(structures / (ranks * micro)) * request.epochs  # of each process
    steps = math.ceil(batches * ranks * micro / batch)
    warmup = WARMUP_EPOCHS
    if warmup * per_epoch < 1:
        warmup = WARMUP_SHARE * request.epochs
        notes.append(
            f"warm-up over {WARMUP_SHARE:.0%} of the training instead of {WARMUP_EPOCHS} epochs, which are no step here"
        )
    ema = min(EMA, max(0.0, 1 - 1 / max(AVERAGED_SHARE * steps, 1.0)))
    if ema < EMA:
        notes.append(
            f"weights averaged with {ema:.4g} instead of {EMA}, over a tenth of the {steps} steps: the average would "
            "otherwise still be mostly the weights before tuning"
        )
    optim: dict[str, Any] = {
        "batch_size": micro,
        "eval_batch_size": micro,
        "global_batch_size": batch,
        "num_workers": WORKERS if structures >= WORKERS_FROM else 0,
        "load_balancing": "atoms",
        "precision": request.precision,
        "lr_initial": request.lr,
        "max_epochs": request.epochs,
        "optimizer": "AdamW",
        "optimizer_params": {"weight_decay": 0.001},
        "scheduler": "LambdaLR",
        "scheduler_params": {
            "lambda_type": "cosine",
            "warmup_factor": 0.2,
            "warmup_epochs": round(warmup, 6),
            "lr_min_factor": 0.01,
        },
        "clip_grad_norm": 100,
        "ema_decay": round(ema, 6),
        "checkpoint_every": -1,
    }
    if request.freeze != "none":
        optim["freeze"] = request.freeze
    if request.patience is not None:
        optim["early_stopping"] = request.patience
    losses = [
        {"energy": {"fn": "per_atom_mae", "coefficient": request.energy_weight}},
        {"forces": {"fn": "l2mae", "coefficient": request.force_weight}},
    ]
    return Settings(optim, steps, losses, tuple(notes))


def _batch(structures: int, ranks: int) -> int:
    """The largest power of two, at most the recipe's, that leaves enough steps; every process gets one at least."""
    wanted = min(BATCH, max(structures // STEPS_PER_EPOCH, 1))
    return max(2 ** int(math.log2(wanted)) // ranks, 1) * ranks
