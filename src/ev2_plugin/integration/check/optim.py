"""The `optim` section: what training cannot do without, and how processes make a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ev2_plugin.integration.known_keys import names_our_trainer
from ev2_plugin.integration.rank_groups import ranks_per_batch
from ev2_plugin.training.batch_plan import BatchPlan, check_global_batch_size, plan_batches
from ev2_plugin.training.freezing import frozen_blocks

_NEEDED = ("lr_initial", "max_epochs", "num_workers")
_NEEDED_BY_COSINE = ("warmup_epochs", "warmup_factor", "lr_min_factor")
_NUMBERS = ("ema_decay", "clip_grad_norm", "weight_decay", "eval_every", "checkpoint_every")


def check_optim(config: Mapping[str, Any]) -> None:
    """Refuse an `optim` section with which training would stop, at once or before its first step.

    Raises:
        ValueError: Naming the key and what would be right.
    """
    optim = config.get("optim") or {}
    params = optim.get("scheduler_params") or {}
    needed_below = _NEEDED_BY_COSINE if params.get("lambda_type") == "cosine" else ()
    for section, settings, needed, optional in (
        ("optim", optim, _NEEDED, _NUMBERS),
        ("optim.scheduler_params", params, needed_below, ()),
        ("optim.optimizer_params", optim.get("optimizer_params") or {}, (), ("weight_decay",)),
    ):
        for key in needed:
            if settings.get(key) is None:
                raise ValueError(f"{section}.{key} is missing")
        for key in (*needed, *optional):
            value = settings.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(
                    f"{section}.{key} must be a number, got {value!r} (YAML takes 1e-4 for text, 1.0e-4 for a number)"
                )
    for key, module in (("optimizer", torch.optim), ("scheduler", torch.optim.lr_scheduler)):
        name = optim.get(key)
        if name not in (None, "Null") and not hasattr(module, name):
            raise ValueError(f"optim.{key}: {module.__name__} has no {name!r}")
    if optim.get("load_balancing") not in (None, False, "atoms"):
        raise ValueError(f"optim.load_balancing must be atoms or false, got {optim['load_balancing']!r}")
    if optim.get("freeze") is not None:
        frozen_blocks(optim["freeze"])
    check_global_batch_size(planned_batches(config), optim.get("global_batch_size"))


def planned_batches(config: Mapping[str, Any]) -> BatchPlan:
    """How the processes of a run make a step; the host's trainers take one batch of each.

    Raises:
        ValueError: If a size is no positive integer, or processes do not make groups of `--gp-gpus`.
    """
    optim = config["optim"]
    ranks = config["world_size"] // ranks_per_batch(config.get("gp_gpus"), config["world_size"])
    if names_our_trainer(config):
        return plan_batches(optim, ranks)
    return plan_batches({"batch_size": optim.get("batch_size", 1)}, ranks)
