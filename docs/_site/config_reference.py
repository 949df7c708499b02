"""docs/config.md from the dataclasses that read a run file: `python docs/_site/config_reference.py` writes it anew."""

import logging
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from griffe import Docstring, DocstringSectionKind

from ev2_plugin.integration.config import HostOptions
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.stress_head import StressSpec
from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.training.noisy_nodes import NoisyNodes

PAGE = Path(__file__).parents[1] / "config.md"

OPTIM = {
    "global_batch_size": "structures of one optimiser step, of all processes; what they lack is accumulated "
    "([distributed training](distributed.md#the-global-batch))",
    "grad_accumulation_steps": "batches of one optimiser step and process, instead of `global_batch_size`",
    "precision": "autocast of training: `fp32`, `fp16` or `bf16` ([precision](precision.md))",
    "freeze": "what keeps its weights: `none`, `embedding`, `blocks:N` or `backbone` ([fine-tuning](finetuning.md))",
    "early_stopping": "validations in a row without a better primary metric that end a training; null for none",
    "max_non_finite_steps": "skipped steps in a row that end a run; 10",
    "keep_checkpoints": "checkpoints of the state of training that stay; 3 ([reliability](reliability.md))",
}
"""The keys of `optim` that `ev2_plugin.Trainer` reads and fairchem's trainers do not."""

SECTIONS = {
    "## The network": (
        "In `model`, or in `model.backbone` of the hydra form. The defaults are those of the official code, not the "
        "paper's, which the run files have.",
        ModelConfig,
    ),
    "## Beside the network": ("In the same section.", HostOptions),
    "## The stress head": ("In `model.heads.<name>` with `module: ev2_plugin.StressHead`.", StressSpec),
    "## Noisy Nodes": ("In `task.noisy_nodes`, with `trainer: ev2_plugin.Trainer`.", NoisyNodes),
    "## Relaxations, L-BFGS": (
        "In `task.relax_opt`; the other keys of relaxations are on [their page](relaxation.md).",
        LBFGS,
    ),
    "## Relaxations, FIRE": ("In `task.relax_opt.fire`, with `task.relax_opt.name: fire`.", FIRE),
}

HEAD = """\
# Config reference

A run file is fairchem's, and fairchem's own keys are what they are there. This page has the keys that this package
reads, made from the classes that read them (`python docs/_site/config_reference.py`). A key that nobody reads is an
error, with the nearest one that somebody does; so is a value of another kind. Ready files: [recipes](recipes.md); what
a file comes to before it runs: [the dry run](check.md).
"""


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for heading, (where, settings) in SECTIONS.items():
        parts.append(f"{heading}\n\n{where}\n\n{_table(settings)}")
        if settings is HostOptions:
            parts.append(f"## Training\n\nIn `optim`, with `trainer: ev2_plugin.Trainer`.\n\n{_keys(OPTIM)}")
    return "\n".join(parts)


def _table(settings: type) -> str:
    kinds, said = get_type_hints(settings), _attributes(settings)
    rows = [(f"`{f.name}`", _kind(kinds[f.name]), _default(f), said[f.name]) for f in fields(settings)]
    return _markdown(("key", "value", "default", "meaning"), rows)


def _keys(meanings: dict[str, str]) -> str:
    return _markdown(("key", "meaning"), [(f"`{key}`", meaning) for key, meaning in meanings.items()])


def _markdown(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _attributes(settings: type) -> dict[str, str]:
    """What the class's docstring says of each field."""
    sections = Docstring(settings.__doc__ or "").parse("google", warnings=False)
    kinds = DocstringSectionKind.attributes, DocstringSectionKind.parameters
    (attributes,) = (section.value for section in sections if section.kind in kinds)
    return {one.name: " ".join(one.description.split()) for one in attributes}


def _kind(kind: Any) -> str:
    if get_origin(kind) is None and not get_args(kind):
        return {"int": "integer", "float": "number", "bool": "true or false"}.get(kind.__name__, kind.__name__)
    if type(None) in get_args(kind):
        return " or ".join(_kind(one) for one in get_args(kind) if one is not type(None)) + " or null"
    return ", ".join(f"`{choice}`" for choice in get_args(kind))


def _default(field: "Field[Any]") -> str:
    if field.default is MISSING:
        return "required" if field.name not in ("avg_num_nodes", "avg_degree") else "OC20's"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "`null`" if field.default is None else f"`{field.default}`"


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    PAGE.write_text(reference(), encoding="utf-8")
