"""`ev2 adsorbml demo`: a campaign from slabs to the success table, with ASE's EMT as the method that counts."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.ground_truth import collect_targets
from ev2_plugin.adsorbml.scoring import filter_relaxed, score
from ev2_plugin.adsorbml.shards import GroundTruth
from ev2_plugin.adsorbml.single_points import collect, compute
from ev2_plugin.adsorbml.slabs import load_slab
from ev2_plugin.adsorbml.success_rate import Scores
from ev2_plugin.integration.adsorbml_placing import place_all
from ev2_plugin.integration.adsorbml_relaxation import Machine, run_shard, settle_relaxation
from ev2_plugin.integration.placements import PlacementSettings, load_adsorbate

SLABS = ("Cu:111:2x2x3", "Ag:100:2x2x3", "Pt:111:2x2x3")
ADSORBATES = ("*O", "*N")
SITES = 6
METHOD = "emt"
STAND_IN = {
    "calculator": "ev2_plugin.adsorbml.disturbed_emt.DisturbedEMT",
    "keywords": {"amplitude": -0.07, "waves": [[2, 0, 0], [0, 2, 0]]},
}
"""EMT that likes on-top sites too well, so that its lowest configuration is not always the right one."""
_MOST_STEPS = 150  # of both kinds of relaxation; what wanders longer over a flat surface does not converge

Report = Callable[[str, int, int], None]


def run_demo(out: Path, checkpoint: Path | None, seed: int, report: Report) -> Scores:
    """Go through all stages; a call that was killed goes on.

    Args:
        out: The campaign's folder.
        checkpoint: Model that relaxes; None for EMT with a known error.
        seed: Of the placements.
        report: Called with a stage, what of it is done, and all of it.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the folder holds another campaign.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such checkpoint", str(checkpoint))
    campaign = Campaign(out)
    place_all(
        campaign,
        [load_slab(name) for name in SLABS],
        [load_adsorbate(name) for name in ADSORBATES],
        PlacementSettings(sites=SITES, min_width=4.0, seed=seed),
        relax_with=(METHOD, {}),
        on_progress=lambda done, total: report("place", done, total),
    )
    model = STAND_IN if checkpoint is None else {"checkpoint": str(checkpoint.resolve())}
    settle_relaxation(campaign, {**model, "steps": _MOST_STEPS})
    run_shard(campaign, 0, Machine(), lambda progress: report("relax", progress.done, progress.total))
    filter_relaxed(campaign, intercalation=False, workers=1, on_progress=lambda *count: report("filter", *count))
    compute(campaign, METHOD, {}, lambda done, total: report("single-points", done, total))
    collect(campaign)
    truth = GroundTruth(out)
    settle_relaxation(truth, {"calculator": METHOD, "steps": _MOST_STEPS})
    run_shard(truth, 0, Machine(), lambda progress: report("targets", progress.done, progress.total))
    collect_targets(campaign)
    return score(campaign)[0]
