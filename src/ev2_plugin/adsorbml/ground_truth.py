"""The ground truth: all initial structures relaxed by the method that counts."""

from __future__ import annotations

from ev2_plugin.adsorbml.campaign import Campaign
from ev2_plugin.adsorbml.checking import check_campaign
from ev2_plugin.adsorbml.records import Target
from ev2_plugin.adsorbml.shards import GroundTruth, require_complete
from ev2_plugin.adsorbml.tables import write_table


def collect_targets(campaign: Campaign, workers: int = 1) -> list[Target]:
    """Read the relaxations by the method that counts, and write `targets.csv`.

    A structure that did not converge, or fails a check, has no energy, but its steps count. Every geometry costs one
    call of the calculator, which is counted as one electronic step.

    Args:
        campaign: With a complete ground truth.
        workers: Processes.

    Raises:
        ValueError: If not all structures are relaxed.
    """
    truth = GroundTruth(campaign.folder)
    require_complete(truth)
    targets = [
        Target(
            system=one.system,
            config=one.config,
            energy=one.energy if one.valid and one.converged else None,
            scf_steps=one.steps + 1,
            ionic_steps=one.steps + 1,
        )
        for one in check_campaign(truth, intercalation=False, workers=workers, on_progress=None)
    ]
    write_table(campaign.targets, targets, Target)
    return targets
