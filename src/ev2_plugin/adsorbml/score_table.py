"""Scores as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ev2_plugin.adsorbml.success_rate import THRESHOLD, PotentialOnly, Score, Scores


def write_scores(json_file: Path, markdown_file: Path, scores: Scores) -> None:
    """Write both forms."""
    json_file.write_text(json.dumps(as_json(scores), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    markdown_file.write_text(as_markdown(scores), encoding="utf-8")


def as_json(scores: Scores) -> dict[str, Any]:
    """Everything there is to know, rates as fractions; speed-ups are null where the single points took no steps."""
    return {
        "threshold_eV": THRESHOLD,
        "systems": scores.systems,
        "systems_without_valid_configuration": scores.without_valid,
        "target_scf_steps": scores.target_scf_steps,
        "target_ionic_steps": scores.target_ionic_steps,
        "top_k": [
            {
                "k": one.k,
                **_rates(one),
                "single_points": one.single_points,
                "missing_single_points": one.missing,
                "scf_speedup": one.scf_speedup,
                "ionic_speedup": one.ionic_speedup,
            }
            for one in scores.top_k
        ],
        "potential_only": {"confirmed": scores.potential_only.confirmed, **_rates(scores.potential_only)},
    }


def as_markdown(scores: Scores) -> str:
    """The table of the paper, one line per k, and what it leaves out."""
    alone = scores.potential_only
    lines = [
        "| k | success | speed-up (SCF steps) | speed-up (ionic steps) | much better | missing single points |",
        "|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {one.k} | {_percent(one)} | {_times(one.scf_speedup)} | {_times(one.ionic_speedup)} "
            f"| {one.much_better / one.systems:.2%} | {one.missing} |"
            for one in scores.top_k
        ),
        "",
        f"- {scores.systems} systems with a ground truth, {scores.without_valid} of them without a valid configuration "
        "(failures that cost nothing).",
        f"- Success: at most {THRESHOLD} eV above the lowest energy of the ground truth; much better: more than "
        f"{THRESHOLD} eV below it, which is a success too.",
        f"- Potential alone: {_percent(alone)}; the single point confirms the lowest energy within {THRESHOLD} eV in "
        f"{alone.confirmed} systems.",
        f"- Ground truth: {scores.target_scf_steps} SCF steps, {scores.target_ionic_steps} ionic steps.",
    ]
    return "\n".join(lines) + "\n"


def _rates(one: Score | PotentialOnly) -> dict[str, int | float]:
    return {
        "successes": one.successes,
        "success_rate": one.success_rate,
        "much_better": one.much_better,
        "much_better_rate": one.much_better / one.systems,
    }


def _percent(one: Score | PotentialOnly) -> str:
    return f"{one.success_rate:.2%} ({one.successes})"


def _times(speedup: float | None) -> str:
    return "none" if speedup is None else f"{speedup:.2f}"
