"""Prepare, look, train, judge: a fine-tuning from files to a tuned model; where a kill ended it, the same call goes on.

::

    OUT/request.json     what was asked for
    OUT/data/            the dataset, as `ev2 data prepare` makes it
    OUT/start.pt         weights, normalisers and references that the training starts from
    OUT/plan.json        what was found out about the energies, and what was changed of the recipe and why
    OUT/run.yml          the run file
    OUT/checkpoints/     of the training; OUT/logs/, OUT/results/ likewise
    OUT/tuned.pt         the best weights
    OUT/curves.png       learning curves
    OUT/report.html      as `ev2 report` makes it
    OUT/finetune.json    errors before and after, settings, versions: the end
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.data.manifest import exclusive, write_json
from ev2_plugin.data.outcome import Outcome
from ev2_plugin.data.prepare import Preparation, prepare
from ev2_plugin.data.recipe import OUR_TRAINER, Recipe, write_run_file
from ev2_plugin.finetuning import judgement
from ev2_plugin.finetuning.curves import save_curves
from ev2_plugin.finetuning.energies import Decision, decide
from ev2_plugin.finetuning.recipe import settings
from ev2_plugin.finetuning.request import Request, begin
from ev2_plugin.finetuning.run_file import NAME, arguments, as_mapping, best_checkpoint, comment, run_config
from ev2_plugin.finetuning.zero_shot import ask
from ev2_plugin.integration import provenance
from ev2_plugin.integration.check.dry_run import dry_run, training_config
from ev2_plugin.integration.check.report import CheckReport
from ev2_plugin.integration.convert import convert
from ev2_plugin.integration.host_run import run_host
from ev2_plugin.integration.starting_point import StartingPoint, read_starting_point, write_start
from ev2_plugin.progress import Follow
from ev2_plugin.report.write import write_report
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from ev2_plugin.storage.plain_files import read_json
from ev2_plugin.training.stopping import Stopped

PLAN, RESULT, REPORT = "plan.json", "finetune.json", "report.html"
FORMAT = 1
_STEP = re.compile(r"\bstep: ([-+.\de]+)$")


@dataclass(frozen=True)
class Plan:
    """What a fine-tuning will do.

    Attributes:
        content: What `plan.json` holds.
        data: The prepared dataset.
    """

    content: Mapping[str, Any]
    data: Outcome

    @property
    def steps(self) -> int:
        """Optimiser steps, if nothing ends them early."""
        return int(self.content["steps"])


def plan(request: Request, follow: Follow = lambda stage, done, total: None) -> Plan:
    """Prepare the data, compare energies, write the run file; what is done already is kept.

    Raises:
        FileExistsError: If the folder holds something else.
        FileNotFoundError: If a source or the checkpoint does not exist.
        RuntimeError: If another process is at work in the folder.
        ValueError: If files, checkpoint and options do not go together; the message says what would.
    """
    begin(request, planned=(request.out / PLAN).is_file())
    with exclusive(request.out):
        start = read_starting_point(request.checkpoint, trust=request.trust)
        data = prepare(_preparation(request, start), follow)
        found = request.out / PLAN
        if not found.is_file():
            _write_plan(request, start, data, follow)
        return Plan(read_json(found), data)


def check(request: Request) -> CheckReport:
    """A dry run of the training that was planned; nothing is written.

    Raises:
        ValueError: If something cannot go well.
    """
    flags = arguments(request, "train", request.out / "start.pt", NAME)
    return dry_run(training_config(request.out / "run.yml", flags))


def carry_out(request: Request, made: Plan, follow: Follow = lambda stage, done, total: None) -> dict[str, Any]:
    """Train as planned, judge, and write down what came out; a call after a kill goes on.

    Returns:
        What `finetune.json` holds.

    Raises:
        Stopped: If a signal ended it; everything is kept.
    """
    result = request.out / RESULT
    if result.is_file():
        return dict(read_json(result))
    with exclusive(request.out):
        began = time.time()
        try:
            _train(request, made, follow)
            predicted = {stage: _predict(request, stage) for stage in ("before", "after")}
        except Stopped as stopped:
            raise Stopped(
                f"stopped; everything is kept in {request.out}: the same command goes on from there", stopped.signal
            ) from None
        judged = judgement.judge(_held_out(request), predicted, made.content["shift"])
        log = next(request.out.glob(f"logs/*/{NAME}/metrics.jsonl"))
        save_curves(log, request.out / "curves.png", request.out / "curves.svg")
        convert(best_checkpoint(request.out), request.out / "tuned.pt")
        write_report(log.parent, request.out / REPORT)
        write_json(result, _content(request, made, judged, time.time() - began))
    return dict(read_json(result))


def _preparation(request: Request, start: StartingPoint) -> Preparation:
    recipe = Recipe(str(request.checkpoint), {"model": start.model, "trainer": OUR_TRAINER})
    shares = request.shares or (None if request.val or request.test else (0.8, 0.1, 0.1))
    return Preparation(
        out=request.out / "data",
        sources=request.sources,
        recipe=recipe,
        val=request.val,
        test=request.test,
        shares=shares,
        seed=request.seed,
        fit_references=False,
        with_run_file=False,
    )


def _write_plan(request: Request, start: StartingPoint, data: Outcome, follow: Follow) -> None:
    zero_shot = ask(start, request.out / "data" / "train", request.device, request.trust, follow)
    rmsd = start.normalizers.get("energy", {}).get("rmsd", 1.0)
    decision = decide(request.references, zero_shot, start.energy.name, rmsd, start.references, request.checkpoint)
    _check_covered(decision, data)
    chosen = settings(request, data.report["splits"]["train"]["structures"])
    notes = [*chosen.notes, *(f"no {head}: the head is left out" for head in start.left_out)]
    write_start(request.out / "start.pt", start, decision.references, decision.kind)
    config = run_config(request, start, decision, chosen)
    write_run_file(request.out / "run.yml", config, comment(request, decision, notes))
    content = {
        "checkpoint": {"file": str(request.checkpoint), "digest": start.digest, "energy": str(start.energy)},
        "zero_shot": {
            "structures": zero_shot.structures,
            "labels": str(zero_shot.labels),
            "mean": zero_shot.residual.mean,
            "std": zero_shot.residual.std,
            "per_atom": zero_shot.per_atom,
            "per_atom_with_fitted_references": zero_shot.per_atom_left,
        },
        "energies": as_mapping(decision),
        "shift": zero_shot.shift.by_symbol if decision.fitted else None,
        "references_determined": zero_shot.shift.is_determined,
        "steps": chosen.steps,
        "optim": chosen.optim,
        "notes": notes,
    }
    write_json(request.out / PLAN, content)  # last: it says that the files before it are there


def _check_covered(decision: Decision, data: Outcome) -> None:
    """Make sure that every split can be referenced: the trainer refuses elements without a reference."""
    if decision.references is None:
        return
    for split, counts in data.report["splits"].items():
        missing = [symbol for symbol in counts["elements"] if symbol not in decision.references]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} of the {split} split has no element reference, as no training structure has it: "
                "divide otherwise (--seed, --split, --val)"
            )


def _train(request: Request, made: Plan, follow: Follow) -> None:
    accumulation = made.content["optim"]["global_batch_size"] // (
        made.content["optim"]["batch_size"] * request.num_gpus
    )

    def watch(message: str) -> None:
        if found := _STEP.search(message):
            follow("train", min(round(float(found[1]) / accumulation), made.steps), made.steps)

    every = max(made.steps * accumulation // 100, 1)
    flags = arguments(request, "train", request.out / "start.pt", NAME, "--print-every", str(every))
    _run(request, flags, watch)
    follow("train", made.steps, made.steps)


def _predict(request: Request, stage: str) -> Path:
    checkpoint = request.out / "start.pt" if stage == "before" else best_checkpoint(request.out)
    where = f"--dataset.test.src={_held_out(request).resolve()}"
    _run(request, arguments(request, "predict", checkpoint, stage, where))
    return request.out / "results" / stage / "ocp_predictions.npz"


def _run(request: Request, flags: list[str], watch: Callable[[str], None] = lambda message: None) -> None:
    run_host(["--config-yml", str(request.out / "run.yml"), *flags], request.out / "training.log", watch)


def _held_out(request: Request) -> Path:
    test = request.out / "data" / "test"
    return test if test.is_dir() else request.out / "data" / "val"


def _content(request: Request, made: Plan, judged: judgement.Judgement, seconds: float) -> dict[str, Any]:
    newest = read_checkpoint(request.out / "checkpoints" / NAME / "checkpoint.pt")
    best = newest["best_val_metric"]
    record = read_json(next(request.out.glob(f"logs/*/{NAME}/run.json")))
    return {
        "format": FORMAT,
        "settings": request.settings(),
        **made.content,
        "data": made.data.report["splits"],
        "data_notes": made.data.report["notes"],
        "trained": {
            "steps": newest["step"] // newest["batches_per_step"],
            "epochs": round(float(newest["epoch"]), 6),
            "ended_early": newest["step"] // newest["batches_per_step"] < made.steps,
            "best_validation": {request.metric: float(best)},
        },
        "held_out": {"split": judged.split, "structures": judged.structures},
        "errors": judged.values,
        "improved": judged.improved,
        "evaluations": judged.evaluations,
        "files": {
            "tuned": str(request.out / "tuned.pt"),
            "run_file": str(request.out / "run.yml"),
            "curves": str(request.out / "curves.png"),
            "report": str(request.out / REPORT),
        },
        "seconds_of_last_call": round(seconds, 1),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "places": record["attempts"][-1]["places"],
    }
