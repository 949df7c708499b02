"""What a config alone shows to be wrong, whatever the data are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fairchem.core.modules import evaluator
from fairchem.core.modules.evaluator import Evaluator

from ev2_plugin.integration.check.keys import key_problems
from ev2_plugin.integration.check.kinds import check_kinds
from ev2_plugin.integration.check.optim import check_optim
from ev2_plugin.integration.check.sbatch_options import misspelt_options
from ev2_plugin.integration.known_keys import names_our_trainer

_TASK_OF_TRAINER = {
    **dict.fromkeys(("forces", "equiformerv2_forces"), "s2ef"),
    **dict.fromkeys(("energy", "equiformerv2_energy"), "is2re"),
}


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse a run whose settings contradict each other, and keys that nobody reads.

    Unknown keys are an error where the config names the plugin's trainer; elsewhere they are told in a warning.

    Args:
        config: The run's config, as `build_run_config` returns it. One without `loss_functions` is of the old form
            that the host converts by itself, and passes.

    Raises:
        ValueError: If something cannot go well.
    """
    if names_our_trainer(config):
        _check_forms(config)
        check_kinds(config)
    if not config.get("loss_functions"):
        return
    unknown = [str(problem) for problem in key_problems(config) if not problem.inert]
    unknown += misspelt_options(config.get("slurm") or {})
    if unknown and names_our_trainer(config):
        raise ValueError(f"nothing reads {'; '.join(unknown)}")
    if unknown:
        logging.warning(f"nothing reads {'; '.join(unknown)}")
    if config["mode"] == "train":
        check_optim(config)
    if config["mode"] in ("train", "validate"):
        _check_targets(config)
        _check_metrics(config)


def _check_forms(config: Mapping[str, Any]) -> None:
    """Compare the kinds of the sections with what everything after this relies on."""
    forms = {
        "outputs": (Mapping, "a mapping of names to settings"),
        "loss_functions": (list, "a list of `target: {fn: ..., coefficient: ...}`"),
        "optim": (Mapping, "a mapping"),
    }
    for name, (kind, words) in forms.items():
        if not isinstance(config.get(name), kind) or not config[name]:
            raise ValueError(f"{name} must be {words} with at least one entry, got {config.get(name)!r}")
    lambda_type = (config["optim"].get("scheduler_params") or {}).get("lambda_type", "cosine")
    if config["optim"].get("scheduler") == "LambdaLR" and lambda_type != "cosine":
        raise ValueError(f"optim.scheduler_params.lambda_type must be cosine, got {lambda_type!r}")


def output_targets(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Everything that needs a label: the outputs and the parts that some of them are decomposed into."""
    targets = {}
    for name, settings in (config.get("outputs") or {}).items():
        targets[name] = dict(settings)
        for part, own in (settings.get("decomposition") or {}).items():
            inherited = {"level": settings.get("level", "system"), "train_on_free_atoms": True}
            targets[part] = {"eval_on_free_atoms": True, **inherited, **own}
    return targets


def _check_targets(config: Mapping[str, Any]) -> None:
    targets, ours = output_targets(config), names_our_trainer(config)
    for name, settings in targets.items():
        if settings.get("level") not in ("system", "atom"):
            raise ValueError(f"outputs.{name}.level must be system or atom, got {settings.get('level')!r}")
        for key in ("eval_on_free_atoms", *([] if ours else ["train_on_free_atoms"])):
            if settings["level"] == "atom" and key not in settings:
                raise ValueError(f"outputs.{name} lacks {key}: true or false")
    for loss in config["loss_functions"]:
        for name in loss:
            if name not in targets:
                raise ValueError(f"loss_functions.{name}: no such output; outputs are {', '.join(targets)}")


def _check_metrics(config: Mapping[str, Any]) -> None:
    """Compare `evaluation_metrics` with the outputs and with what the host can compute."""
    task = _TASK_OF_TRAINER.get(config.get("trainer", "ocp"), "ocp")
    section = config.get("evaluation_metrics") or {}
    metrics = section.get("metrics") or Evaluator.task_metrics.get(task, {})
    targets = output_targets(config)
    for target, functions in metrics.items():
        if target not in targets and target != "misc":
            raise ValueError(
                f"evaluation_metrics.metrics.{target}: no such output; outputs are {', '.join(targets)} (or misc)"
            )
        for function in functions:
            if not callable(getattr(evaluator, function, None)):
                raise ValueError(f"evaluation_metrics.metrics.{target}: the host has no metric {function!r}")
    # named as the host names them
    names = [
        function if target in function or target == "misc" else f"{target}_{function}"
        for target, functions in metrics.items()
        for function in functions
    ]
    primary = section.get("primary_metric", Evaluator.task_primary_metric[task])
    if primary is None:
        raise ValueError(f"evaluation_metrics.primary_metric is missing: give one of {', '.join([*names, 'loss'])}")
    if primary not in [*names, "loss"]:
        raise ValueError(
            f"evaluation_metrics.primary_metric {primary!r} is not among the metrics: {', '.join([*names, 'loss'])}"
        )
