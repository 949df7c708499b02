"""What a run leaves behind, as the launcher writes it."""

import json
from pathlib import Path

from ev2_plugin.storage.metrics_log import Entry, MetricsLog


def log_entries(folder: Path, entries: list[tuple[int, str, dict[str, float]]]) -> None:
    log = MetricsLog(folder / "metrics.jsonl")
    for step, split, values in entries:
        log.append(Entry(step=step, split=split, epoch=step / 4, time=0.0, values=values))
    log.close()


def record_run(folder: Path, /, **attempt: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "mode": "train",
        "state": "finished",
        "folder": str(folder),
        "versions": {"torch": "2.4.1", "triton": None},
        "command": ["ev2", "fairchem", "--logger.api_key=very-secret"],
        "config": "config-1234.yml",
        **attempt,
    }
    (folder / "run.json").write_text(json.dumps({"format": 1, "attempts": [content]}))
