"""The keys of a config that somebody reads: fairchem 1.10, its datasets and trainers, our trainer, our models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from ev2_plugin.integration.config import HostOptions
from ev2_plugin.integration.registration import SHORT_NAMES
from ev2_plugin.integration.relaxation_settings import FIRE_KEYS, OUR_TASK_KEYS
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.stress_head import StressSpec
from ev2_plugin.training.noisy_nodes import NoisyNodes

Tree = Mapping[str, Any]
"""Known keys of a mapping and what may stand below each; below an empty one nothing is looked into."""

ANY = "*"
"""A name that the file chooses: an output, an element, a head."""

CONVERTING_TRAINERS = ("equiformerv2_forces", "equiformerv2_energy")  # they turn epochs of a schedule into steps


def _names(*names: str) -> dict[str, Tree]:
    return {name: {} for name in names}


_TOP = _names(
    *("mode", "identifier", "timestamp_id", "checkpoint", "run_dir", "print_every", "seed", "amp", "cpu", "gp_gpus"),
    *("submit", "summit", "is_debug", "world_size", "distributed_backend", "local_rank"),  # flags
    *("trainer", "logger", "slurm", "hide_eval_progressbar", "timeout"),
)
_TASK = {
    **_names("dataset", "energy", "prediction_dtype", "strict_load", "trust", "eval_relaxations", "relax_dataset"),
    **_names("relaxation_steps", "relaxation_fmax", "relax_cell", "relax_volume", "num_relaxation_batches"),
    **_names("write_pos", "save_full_traj", "set_deterministic_scatter"),
    "relax_opt": _names("maxstep", "memory", "damping", "alpha", "traj_dir"),
}
_OUTPUT = _names(
    *("level", "property", "irrep_dim", "train_on_free_atoms", "eval_on_free_atoms", "prediction_dtype"),
    "shape",  # documented by the host, read by nobody
)
_OPTIM = {
    **_names("batch_size", "eval_batch_size", "num_workers", "load_balancing", "load_balancing_on_error"),
    **_names("optimizer", "weight_decay", "lr_initial", "scheduler", "max_epochs", "clip_grad_norm", "ema_decay"),
    **_names("eval_every", "checkpoint_every", "checkpoint_format", "load_datasets_and_model_then_exit"),
}
OUR_OPTIM = _names(
    *("global_batch_size", "grad_accumulation_steps", "precision", "max_non_finite_steps", "keep_checkpoints"),
    *("freeze", "early_stopping"),
)
_WARMUP_BY_STEPS = _names("lr_milestones", "warmup_steps", "warmup_factor", "lr_gamma")  # without `scheduler`
_COSINE = _names("lambda_type", "warmup_epochs", "warmup_factor", "lr_min_factor")
_MULTISTEP = _names("lambda_type", "warmup_epochs", "warmup_factor", "decay_epochs", "decay_rate")
_FIT = _names("targets", "batch_size", "num_batches", "num_workers", "shuffle", "seed", "fitted")
_NORMALIZER = {
    "file": {},
    "fit": {**_FIT, **_names("override_values", "rmsd_correction")},
    ANY: _names("mean", "rmsd", "stdev", "file", "state_dict", "tensor"),
}
_REFERENCES = {
    "file": {},
    "fit": {**_FIT, **_names("max_num_elements", "log_metrics", "use_numpy", "driver")},
    ANY: _names("file", "state_dict"),
}
_SPLIT = {
    **_names("format", "src", "key_mapping", "metadata_path", "use_train_settings", "splits", "seed"),
    **_names("first_n", "sample_n", "max_atoms", "no_shuffle", "subset_to"),
    **_names("train_split_settings", "val_split_settings", "test_split_settings"),
}
_LMDB = _names("shard", "total_shards")
_ASE = _names("a2g_args", "keep_in_memory", "atoms_transform_args", "include_relaxed_energy", "lin_ref")
_READ = _names("pattern", "ase_read_args")
_FORMATS = {
    **dict.fromkeys(("lmdb", "single_point_lmdb", "trajectory_lmdb"), _LMDB),
    "oc22_lmdb": _names("data2train", "train_on_oc20_total_energies", "oc20_ref"),
    "ase_read": {**_ASE, **_READ},
    "ase_read_multi": {**_ASE, **_READ, **_names("index_file", "use_tqdm")},
    "ase_db": {**_ASE, **_names("connect_args", "select_args")},
}

_PLUGIN = "ev2_plugin."
_NETWORK = _names(
    *(field.name for kind in (ModelConfig, HostOptions) for field in fields(kind)),
    *("lmax_list", "mmax_list", "use_pbc_single", "use_s2_act_attn"),
)
_HEADS = {
    "EnergyHead": _names("output_name", "reduce"),
    "ForceHead": _names("output_name"),
    "VectorHead": _names("output_name"),
    "StressHead": _names("output_name", "default_norm_type", *(field.name for field in fields(StressSpec))),
}
_CLASS_OF = {short: name for (_, short), name in SHORT_NAMES.items()}


def known_keys(config: Mapping[str, Any]) -> Tree:
    """The tree of what is read for a config, which depends on its trainer, datasets, optimiser, schedule and model."""
    ours = names_our_trainer(config)
    loss = _names("fn", "coefficient", "reduction", *(["final_coefficient"] if ours else []))
    noise = {"noisy_nodes": _names(*(field.name for field in fields(NoisyNodes)))} if ours else {}
    files = _names("prediction_order") if ours else {}
    relaxations = _our_relaxations() if ours else {}
    datasets = config.get("dataset")
    return {
        **_TOP,
        "model": _model(config.get("model")),
        "dataset": {split: _split(split, datasets, ours) for split in ("train", "val", "test", "relax")}
        if isinstance(datasets, Mapping)
        else {},  # the list form of older files
        "outputs": {ANY: {**_OUTPUT, "decomposition": {ANY: {**_OUTPUT, "parent": {}}}}},
        "loss_functions": {ANY: loss},
        "evaluation_metrics": {"metrics": {ANY: {}}, "primary_metric": {}},
        "task": {**_TASK, **noise, **files, **relaxations},
        "optim": _optim(config.get("optim") or {}, config.get("trainer"), ours),
    }


def _our_relaxations() -> Tree:
    """Keys of `task` that only our relaxations read, and `relax_opt` with those below it."""
    relax_opt = {**_TASK["relax_opt"], "name": {}, "fire": _names(*FIRE_KEYS)}
    return {**_names(*OUR_TASK_KEYS), "relax_opt": relax_opt}


def _split(split: str, datasets: Mapping[str, Any], ours: bool) -> Tree:
    settings, train = datasets.get(split) or {}, datasets.get("train") or {}
    inherited = train if settings.get("use_train_settings", True) else {}
    format_name = settings.get("format", inherited.get("format", "lmdb"))
    if format_name not in _FORMATS:
        return {}  # somebody's own class
    references = {**_REFERENCES, ANY: {**_REFERENCES[ANY], **(_names("elements") if ours else {})}}
    of_trainer = {"normalizer": _NORMALIZER, "element_references": references} if split == "train" else {}
    transforms = {"decompose_tensor": _names("tensor", "rank", "decomposition"), **of_trainer}
    return {**_SPLIT, **_FORMATS[format_name], "transforms": transforms}


def _optim(optim: Mapping[str, Any], trainer: object, ours: bool) -> Tree:
    beside, below = _schedule(optim, trainer, ours)
    return {
        **_OPTIM,
        **(OUR_OPTIM if ours else {}),
        **beside,
        **({"scheduler_params": below} if below is not None else {}),
        "optimizer_params": _arguments(torch.optim, optim.get("optimizer", "AdamW")),
    }


def _schedule(optim: Mapping[str, Any], trainer: object, ours: bool) -> tuple[Tree, Tree | None]:
    """Keys of the schedule in `optim` itself and in `scheduler_params`, None if nobody looks there."""
    name, kind = optim.get("scheduler"), (optim.get("scheduler_params") or {}).get("lambda_type")
    arguments = _arguments(torch.optim.lr_scheduler, name) if name else _WARMUP_BY_STEPS
    converts = trainer in CONVERTING_TRAINERS
    if kind == "cosine" and (ours or converts):
        return {}, _COSINE
    if converts:
        return {}, _MULTISTEP if kind == "multistep" else arguments
    return arguments, arguments if ours else None


def _arguments(module: Any, class_name: str) -> Tree:
    """Arguments of one of torch's classes; an unknown name is left for torch to refuse."""
    if not hasattr(module, class_name):
        return {}
    arguments = inspect.signature(getattr(module, class_name)).parameters
    return _names(*(set(arguments) - {"params", "lr", "optimizer"}))  # which the trainers fill in


def _model(model: object) -> Tree:
    if not isinstance(model, Mapping):
        return {}
    if _class_name(model.get("name")) == "EquiformerV2":
        return {"name": {}, **_NETWORK}
    if model.get("name") != "hydra":
        return {}  # the signature of somebody else's model tells
    backbone, heads = model.get("backbone") or {}, model.get("heads") or {}
    ours = _class_name(backbone.get("model")) == "EquiformerV2Backbone"
    return {
        **_names("name", "otf_graph", "pass_through_head_outputs", "freeze_backbone"),
        "backbone": {"model": {}, **_NETWORK} if ours else {},
        "heads": {name: _head(head) for name, head in heads.items()},
        "finetune_config": _names("starting_checkpoint", "override"),
    }


def _head(head: Mapping[str, Any]) -> Tree:
    known = _HEADS.get(_class_name(head.get("module")))
    return {} if known is None else {"module": {}, **known}


def names_our_trainer(config: Mapping[str, Any]) -> bool:
    """Whether a config names the plugin's trainer."""
    return _class_name(config.get("trainer")) == "Trainer"


def _class_name(name: object) -> str:
    """Name of a class of the plugin, whichever way a config gives it; empty for others."""
    if not isinstance(name, str):
        return ""
    return _CLASS_OF.get(name) or (name.removeprefix(_PLUGIN) if name.startswith(_PLUGIN) else "")
