"""Keys of a config that nobody reads.

The host ignores a key that it does not know, so a misspelt one changes an experiment without a word.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ev2_plugin.integration.config import INERT
from ev2_plugin.integration.known_keys import ANY, OUR_OPTIM, Tree, known_keys
from ev2_plugin.integration.relaxation_settings import OUR_TASK_KEYS

_INSTEAD = {
    **dict.fromkeys(("lr", "learning_rate"), "did you mean 'lr_initial'?"),
    "lin_ref": "give element references under dataset.train.transforms.element_references",
    "normalize_labels": "give mean and rmsd under dataset.train.transforms.normalizer",
    "target_mean": "give it as dataset.train.transforms.normalizer.energy.mean",
    "target_std": "give it as dataset.train.transforms.normalizer.energy.rmsd",
    "grad_target_mean": "give it as dataset.train.transforms.normalizer.forces.mean",
    "grad_target_std": "give it as dataset.train.transforms.normalizer.forces.rmsd",
    "energy_coefficient": "give it as coefficient of energy under loss_functions",
    "force_coefficient": "give it as coefficient of forces under loss_functions",
    "normalizer": "the trainer takes the one of dataset.train",
    "element_references": "the trainer takes those of dataset.train",
    **dict.fromkeys(OUR_OPTIM, "only trainer: ev2_plugin.Trainer reads it"),
    "final_coefficient": "only trainer: ev2_plugin.Trainer reads it",
    **dict.fromkeys(
        ("noisy_nodes", "elements", "prediction_order", *OUR_TASK_KEYS), "only trainer: ev2_plugin.Trainer reads it"
    ),
}


@dataclass(frozen=True)
class KeyProblem:
    """A key without effect.

    Attributes:
        key: With the sections above it, `optim.lr`.
        reason: What to do instead.
        inert: The official files have it too, and the official code does not use it either.
    """

    key: str
    reason: str
    inert: bool = False

    def __str__(self) -> str:
        return f"{self.key} ({self.reason})"


def key_problems(config: Mapping[str, Any]) -> list[KeyProblem]:
    """List the keys of a config that nobody reads.

    Args:
        config: The run's config, as `build_run_config` returns it. One without `loss_functions` is of the old form,
            which the host converts by itself, and passes.
    """
    if not config.get("loss_functions"):
        return []
    return list(_problems(config, known_keys(config), ""))


def _problems(config: Mapping[str, Any], known: Tree, above: str) -> Iterator[KeyProblem]:
    for key, value in config.items():
        below = known.get(key, known.get(ANY))
        if below is None:
            yield _problem(str(key), known, above)
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Mapping) and below:
                yield from _problems(part, below, f"{above}{key}.")


def _problem(key: str, known: Tree, above: str) -> KeyProblem:
    if above.startswith("model.") and key in INERT:
        return KeyProblem(above + key, "it has no effect, here or in the official code: leave it out", inert=True)
    close = difflib.get_close_matches(key, known, n=1)
    if key in _INSTEAD:
        reason = _INSTEAD[key]
    elif close:
        reason = f"did you mean {close[0]!r}?"
    else:
        reason = f"known there: {', '.join(sorted(set(known) - {ANY}))}"
    return KeyProblem(above + key, reason)
