"""The run file of a fine-tuning: complete, and good for a training by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ev2_plugin.data.recipe import FORMATS, KEY_MAPPINGS, OUR_TRAINER
from ev2_plugin.finetuning.energies import Decision
from ev2_plugin.finetuning.recipe import Settings
from ev2_plugin.finetuning.request import Request
from ev2_plugin.integration.starting_point import StartingPoint

NAME = "finetune"
"""Of the run: `--timestamp-id`."""


def run_config(request: Request, start: StartingPoint, decision: Decision, settings: Settings) -> dict[str, Any]:
    """Everything that the training is told."""
    data = request.out.resolve() / "data"
    transforms: dict[str, Any] = {"normalizer": {target: dict(one) for target, one in start.normalizers.items()}}
    if decision.references is not None:
        transforms["element_references"] = {"energy": {"elements": dict(decision.references)}}
    common = {"format": FORMATS["oc20"], "key_mapping": KEY_MAPPINGS["s2ef"]}
    return {
        "trainer": OUR_TRAINER,
        "dataset": {
            "train": {**common, "src": str(data / "train"), "transforms": transforms},
            "val": {"format": FORMATS["oc20"], "src": str(data / "val")},
        },
        "model": dict(start.model),
        "outputs": dict(start.outputs),
        "loss_functions": settings.losses,
        "evaluation_metrics": {
            "metrics": {"energy": ["mae"], "forces": ["mae", "cosine_similarity"]},
            "primary_metric": request.metric,
        },
        "task": {"prediction_dtype": "float32", **({} if decision.kind is None else {"energy": decision.kind})},
        "optim": settings.optim,
    }


def comment(request: Request, decision: Decision, notes: Sequence[str]) -> str:
    """What stands at the head of the run file: how to run it by hand, and what was changed and why."""
    folder = request.out
    flags = "".join((" --cpu" if request.device == "cpu" else "", f" --num-gpus {request.num_gpus}"))
    return "\n".join(
        [
            f"Fine-tuning of {request.checkpoint}. By hand, from the same weights into a folder of its own:",
            f"  ev2 fairchem --mode train --config-yml {folder}/run.yml --checkpoint {folder}/start.pt \\",
            f"    --run-dir runs --seed {request.seed}{flags}",
            "The settings are those of OMat24's fine-tuning, but:",
            *(f"  * {note}" for note in notes),
            f"Element references: {decision.reason}.",
        ]
    )


def arguments(request: Request, mode: str, checkpoint: Path, name: str, *more: str) -> list[str]:
    """Flags of the launcher for a run of this fine-tuning, but for the run file."""
    training = mode == "train"
    return [
        *("--mode", mode, "--checkpoint", str(checkpoint)),
        *("--run-dir", str(request.out), "--timestamp-id", name, "--seed", str(request.seed)),
        *(("--cpu",) if request.device == "cpu" else ()),
        *(("--num-gpus", str(request.num_gpus)) if training else ()),
        "--hide_eval_progressbar=True",
        *more,
    ]


def best_checkpoint(folder: Path) -> Path:
    """Where the training keeps its best weights."""
    return folder / "checkpoints" / NAME / "best_checkpoint.pt"


def as_mapping(decision: Decision) -> Mapping[str, Any]:
    """A decision as JSON has it."""
    references = None if decision.references is None else dict(decision.references)
    return {"references": references, "fitted": decision.fitted, "kind": decision.kind, "reason": decision.reason}
