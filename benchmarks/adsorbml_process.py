"""What `bench_adsorbml.py` measures: checks, ranking and scores of a campaign, as `ev2 adsorbml` makes them.

Its own processes import this file again, as they import the `ev2` command; so it imports nothing itself.

Run: python benchmarks/adsorbml_process.py CAMPAIGN WORKERS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def process(folder: Path, workers: int) -> dict[str, object]:
    """Go through the stages; seconds of each, and processor time of all processes."""
    from ev2_plugin.adsorbml.campaign import Campaign
    from ev2_plugin.adsorbml.post_processing import EnergyKinds, check_relaxations, rank_relaxed, score_campaign

    campaign = Campaign(folder)
    seconds = {}
    for stage, run in (
        ("check", lambda: check_relaxations(campaign, workers=workers)),
        ("rank", lambda: rank_relaxed(campaign)),
        ("score", lambda: score_campaign(campaign, EnergyKinds("adsorption", "adsorption", "adsorption"))),
    ):
        begin = time.perf_counter()
        run()
        seconds[stage] = time.perf_counter() - begin
    usage = os.times()
    cpu = usage.user + usage.system + usage.children_user + usage.children_system
    return {"stages_s": seconds, "cpu_s": cpu}


if __name__ == "__main__":
    print(json.dumps(process(Path(sys.argv[1]), int(sys.argv[2]))))
