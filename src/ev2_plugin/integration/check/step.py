"""One training step and one validation batch, run by the trainer itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ev2_plugin.integration.backbone import HostModel
from ev2_plugin.integration.check.memory import ActivationMeter
from ev2_plugin.integration.check.report import StepFacts

_SHOWN = 2


class OneBatch:
    """A loader of a single batch; the trainers change what they get, so it hands out copies."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield self._batch.clone()


def run_step(trainer: Any, network: HostModel) -> tuple[StepFacts, int]:
    """Train on the first batch of the training split, then validate on the first one of the validation split.

    A batch of every other split is read too. On a GPU a second step is run for the time: the first one also loads
    kernels.

    Args:
        trainer: Built for a dry run.
        network: The model, or the backbone of a hydra model, inside it.

    Returns:
        What happened, and the most bytes that were kept for the backward pass.

    Raises:
        ValueError: If the loss is not finite, parameters do not take part in it, or memory does not suffice.
    """
    batch = next(iter(trainer.train_loader))
    validation = next(iter(trainer.val_loader), None) if trainer.val_loader is not None else None
    for loader in (trainer.test_loader, getattr(trainer, "relax_loader", None)):
        if loader is not None:
            next(iter(loader), None)
    model = trainer._unwrapped_model
    meter = ActivationMeter([*model.parameters(), *model.buffers()])
    try:
        with meter.watch():
            seconds, loss = _train(trainer, batch)
        _check_gradients(model)
        if trainer.device.type == "cuda":
            seconds, _ = _train(trainer, batch)
        metrics = _validate(trainer, validation) if validation is not None else {}
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError(
            f"{len(batch.natoms)} structures of {len(batch.pos)} atoms do not fit into the memory of this device: "
            f"lower optim.batch_size, or set activation_checkpoint: edges or block in the model section ({error})"
        ) from error
    atoms, _ = network.read(batch.clone().to(trainer.device))
    facts = StepFacts(
        device=_device_name(trainer.device),
        structures=len(atoms.natoms),
        atoms=len(atoms.atomic_numbers),
        edges=len(atoms.graph.senders),
        seconds=seconds,
        loss=loss,
        metrics=metrics,
        peak_bytes=torch.cuda.max_memory_allocated(trainer.device) if trainer.device.type == "cuda" else None,
    )
    return facts, meter.peak


def _train(trainer: Any, batch: Any) -> tuple[float, float]:
    """Let the trainer train for an epoch of one batch: seconds and loss."""
    trainer.step, trainer.epoch = 0, 0
    trainer.train_loader, trainer.val_loader, trainer.test_loader = OneBatch(batch), None, None
    trainer.config["optim"] = {**trainer.config["optim"], "max_epochs": 1, "eval_every": 2, "checkpoint_every": -1}
    start = _now(trainer.device)
    trainer.train(disable_eval_tqdm=True)
    seconds = _now(trainer.device) - start
    loss = trainer.metrics["loss"]["metric"]
    if not math.isfinite(loss):
        raise ValueError(f"the loss of the first training step is {loss}")
    return seconds, loss


def _check_gradients(model: nn.Module) -> None:
    """Every parameter must take part in the loss: the host's distributed wrapper stops at the second step otherwise."""
    idle = [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]
    if idle:
        shown = ", ".join(idle[:_SHOWN]) + (", ..." if len(idle) > _SHOWN else "")
        raise ValueError(
            f"{len(idle)} parameters do not take part in the loss ({shown}), at which the second step would stop: give "
            "what they predict a term in loss_functions, or leave them out (regress_forces: false, or no head)"
        )


def _validate(trainer: Any, batch: Any) -> dict[str, float]:
    trainer.val_loader = OneBatch(batch)
    metrics = trainer.validate(split="val", disable_tqdm=True)
    primary = trainer.evaluation_metrics.get("primary_metric", trainer.evaluator.task_primary_metric[trainer.name])
    trainer.update_best(primary, metrics, disable_eval_tqdm=True)
    return {name: float(value["metric"]) for name, value in metrics.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
