"""From a config to what it would do, through the trainer it names, without leaving a file."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from fairchem.core.common import distutils
from fairchem.core.common.utils import new_trainer_context
from fairchem.core.models.base import HydraModel
from torch import nn

from ev2_plugin.integration.backbone import HostModel
from ev2_plugin.integration.check.advice import advise
from ev2_plugin.integration.check.keys import key_problems
from ev2_plugin.integration.check.labels import ENERGY, energy_kind, label_facts
from ev2_plugin.integration.check.memory import training_memory
from ev2_plugin.integration.check.plan import no_warm_up, plan_training
from ev2_plugin.integration.check.report import CheckReport
from ev2_plugin.integration.check.settings import check_settings
from ev2_plugin.integration.check.step import run_step
from ev2_plugin.integration.check.survey import Survey, survey
from ev2_plugin.integration.flags import fairchem_parser
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.host_reading import is_trusted
from ev2_plugin.integration.known_keys import CONVERTING_TRAINERS
from ev2_plugin.integration.preflight import check_checkpoint, check_datasets, needed_labels
from ev2_plugin.integration.run_config import Config, build_run_config

STRUCTURES_ON_CPU = 2


def training_config(path: Path, arguments: Sequence[str]) -> Config:
    """The config that `ev2 fairchem --mode train` makes of a file, flags and overrides.

    Raises:
        FileNotFoundError: If the file or one that it includes is not found.
        ValueError: If files or overrides are wrong.
    """
    flags = ["--mode", "train", "--config-yml", str(path), *arguments]
    return build_run_config(*fairchem_parser("ev2 check").parse_known_args(flags))


def dry_run(config: Config, structures: int | None = None) -> CheckReport:
    """Do everything that a training run does, once: read, build, a step, a validation batch.

    Args:
        config: The run's config for `--mode train`, as `build_run_config` returns it.
        structures: Structures of the step that runs; if None, a whole batch on a GPU and at most two on a CPU.

    Returns:
        What the run would do.

    Raises:
        FileNotFoundError: If a dataset or the checkpoint does not exist.
        FloatingPointError: If the loss or a gradient is not finite.
        ImportError: If a class that the config names cannot be imported.
        ValueError: If anything else is wrong; the message says what would be right.
    """
    problems = key_problems(config)
    if problems:
        raise ValueError(f"nothing reads {'; '.join(map(str, problems))}")
    check_settings(config)
    if config["checkpoint"] is not None and not Path(config["checkpoint"]).exists():
        raise FileNotFoundError(f"--checkpoint {config['checkpoint']}: no such file")
    with _undisturbed(), only_needed_imports(config), TemporaryDirectory() as folder:
        check_datasets(config)
        distutils.setup_env_local()
        try:
            with new_trainer_context(config=_for_dry_run(config, folder, structures)) as context:
                return _examine(config, context.trainer)
        except ZeroDivisionError as error:
            if config.get("trainer") not in CONVERTING_TRAINERS:
                raise
            raise ValueError(no_warm_up(config)) from error
        finally:
            distutils.cleanup()


def _for_dry_run(config: Config, folder: str, structures: int | None) -> Config:
    """The same run on one process, as long as a step, with its output in a folder that will be gone."""
    local = copy.deepcopy(config)
    on_cpu = local["cpu"] or not torch.cuda.is_available()
    optim = local["optim"]
    batch_size = optim.get("batch_size", 1)
    structures = structures or (min(batch_size, STRUCTURES_ON_CPU) if on_cpu else batch_size)
    evaluated = min(structures, optim.get("eval_batch_size", batch_size)) if on_cpu else optim.get("eval_batch_size")
    optim.update(batch_size=structures, eval_batch_size=evaluated or structures, num_workers=0, max_non_finite_steps=1)
    for key in ("global_batch_size", "grad_accumulation_steps"):
        optim.pop(key, None)
    # debugging: no logger, no checkpoint, no results
    local.update(is_debug=True, run_dir=folder, world_size=1, gp_gpus=None, print_every=2, submit=False, cpu=on_cpu)
    local["distributed_backend"] = "gloo" if on_cpu else "nccl"
    return local


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the host from telling its whole config and every loader, and undo what it does to this process."""
    root, environment = logging.getLogger(), dict(os.environ)
    disabled, handlers, level = root.manager.disable, list(root.handlers), root.level
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about how torch and the host are written
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


def _examine(config: Config, trainer: Any) -> CheckReport:
    model = trainer._unwrapped_model
    network, heads = _parts(model)
    if config["checkpoint"] is not None:
        check_checkpoint(trainer.model, config["checkpoint"], trust=is_trusted(config))
    if trainer.train_dataset is None:
        raise ValueError("dataset.train.src is missing: there is nothing to train on")
    surveys = _surveys(config, trainer, network)
    training = surveys[0]
    labels = label_facts(trainer, training)
    kind = energy_kind(training, referenced=ENERGY in trainer.elementrefs)
    for facts in labels:
        # a model that is trained further keeps its scale, however narrow the new data are
        if facts.refused and not (config["checkpoint"] is not None and facts.is_narrow):
            looks = f"; they look like {kind}" if facts.target == ENERGY and kind else ""
            raise ValueError(facts.advice + looks)
    plan = plan_training(config, training.structures)
    step, kept = run_step(trainer, network)
    scale = plan.batches.batch_size * training.mean_atoms * step.edges_per_atom / step.edges if step.edges else 1.0
    averaged = trainer.ema.shadow_params if trainer.ema else []
    memory = training_memory(model, trainer.optimizer, averaged, round(kept * scale), plan.batches.batch_size)
    in_heads = {name: _count(head) for name, head in heads.items()}
    return CheckReport(
        model=_name(network),
        trainer=config.get("trainer", "ocp"),
        backbone_parameters=_count(model) - sum(in_heads.values()),
        head_parameters=in_heads,
        surveys=surveys,
        labels=tuple(labels),
        energy_kind=kind,
        plan=plan,
        step=step,
        scale=scale,
        memory=memory,
        warnings=tuple(advise(config, network.config, plan, surveys, labels, step)),
    )


def _parts(model: nn.Module) -> tuple[HostModel, dict[str, nn.Module]]:
    """The network that reads structures, and the heads by name."""
    if isinstance(model, HostModel):
        return model, {name: module for name, module in model.named_children() if name.endswith("_block")}
    if isinstance(model, HydraModel) and isinstance(model.backbone, HostModel):
        return model.backbone, dict(model.output_heads.items())
    raise ValueError(f"the model is {_name(model)}: this check knows the models of ev2_plugin only")


def _surveys(config: Config, trainer: Any, network: HostModel) -> tuple[Survey, ...]:
    datasets = {name: getattr(trainer, f"{name}_dataset", None) for name in ("train", "val", "test", "relax")}
    labels = needed_labels(config)
    return tuple(
        survey(split, dataset, labels, network.config.max_num_elements, network.options.use_pbc)
        for split, dataset in datasets.items()
        if dataset is not None
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _name(thing: object) -> str:
    return type(thing).__name__
