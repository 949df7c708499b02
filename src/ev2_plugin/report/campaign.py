"""AdsorbML campaigns: how far they are, what became of the placements, success rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.published import MODELS
from ev2_plugin.adsorbml.records import RelaxedConfiguration
from ev2_plugin.adsorbml.status import campaign_status
from ev2_plugin.adsorbml.tables import read_table
from ev2_plugin.report.parts import Cell, Folded, Line, LinePlot, Note, Part, Plots, Section, Table
from ev2_plugin.storage.plain_files import read_json

_ANOMALIES = ("dissociated", "desorbed", "surface_changed", "intercalated")


def adsorbml_section(folder: Path) -> Section:
    """Show a campaign.

    Raises:
        ValueError: If the folder is no campaign, or a table of it is damaged.
    """
    campaign = Campaign(folder)
    parts: list[Part] = []
    if campaign.scores.exists():
        parts += _scores(read_json(campaign.scores))
    else:
        parts.append(Note("Not scored yet: 'ev2 adsorbml score' computes success rates."))
    if campaign.relaxed.exists():
        parts.append(_anomalies(read_table(campaign.relaxed, RelaxedConfiguration)))
    stages = tuple((one.stage, one.done, one.total, one.unit, one.note) for one in campaign_status(campaign))
    parts.append(Table(f"Stages of {folder}", ("stage", "done", "of", "unit", "note"), stages))
    return Section("adsorbml", "AdsorbML", tuple(parts))


def _scores(scores: dict[str, Any]) -> list[Part]:
    rows: list[tuple[Cell, ...]] = [
        (
            f"k = {one['k']}",
            f"{one['success_rate']:.2%}",
            one["successes"],
            f"{one['much_better_rate']:.2%}",
            one["scf_speedup"],
            one["ionic_speedup"],
            one["missing_single_points"],
        )
        for one in scores["top_k"]
    ]
    columns = ("k", "success", "systems", "much better", "speed-up (SCF steps)", "speed-up (ionic steps)", "missing")
    threshold, alone = scores["threshold_eV"], scores["potential_only"]
    note = (
        f"{scores['systems']} systems with a ground truth, {scores['systems_without_valid_configuration']} of them "
        f"without a valid configuration. Success: at most {threshold} eV above the lowest energy of the ground truth; "
        f"much better: more than {threshold} eV below it, which is a success too. By the potential alone: "
        f"{alone['success_rate']:.2%}."
    )
    own = Line(
        "this campaign",
        tuple(one["k"] for one in scores["top_k"]),
        tuple(100 * one["success_rate"] for one in scores["top_k"]),
        "accent",
        marks=True,
    )
    published = tuple(
        Line(model.name, (1, 2, 3, 4, 5), model.success_rates, "quiet", marks=True) for model in MODELS[-2:]
    )
    plot = LinePlot("adsorbml-success", "Success rate", "configurations k", "success [%]", (own, *published))
    return [Plots((plot,)), Table("Success rates", columns, tuple(rows)), Note(note), _published()]


def _published() -> Folded:
    rows = tuple((model.name, *model.success_rates, *model.speedups[:1]) for model in MODELS)
    columns = ("model", *(f"success, k = {k} [%]" for k in range(1, 6)), "speed-up, k = 1")
    table = Table("OC20-Dense, 973 systems: arXiv:2306.12059, Table 3", columns, rows)
    return Folded("Published results", (table,))


def _anomalies(relaxed: list[RelaxedConfiguration]) -> Table:
    total = len(relaxed)
    counts = {"valid": sum(one.valid for one in relaxed)}
    counts |= {name.replace("_", " "): sum(getattr(one, name) for one in relaxed) for name in _ANOMALIES}
    counts |= {"not converged": sum(not one.converged for one in relaxed)}
    rows = tuple((name, count, f"{count / total:.1%}" if total else None) for name, count in counts.items())
    return Table(f"What became of {total:,} placements", ("outcome", "placements", "share"), rows)
