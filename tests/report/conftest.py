from pathlib import Path

import pytest
import yaml

from helpers.recorded_runs import log_entries, record_run

CONFIG = {
    "model": {"name": "ev2", "num_layers": 2, "max_radius": 5.0},
    "optim": {"batch_size": 4, "lr_initial": 0.002},
    "logger": {"name": "wandb", "api_key": "very-secret"},
}


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run directory with a short training."""
    folder = tmp_path / "run" / "logs" / "local" / "first"
    record_run(folder)
    (folder / "config-1234.yml").write_text(yaml.safe_dump(CONFIG))
    log_entries(
        folder,
        [
            *(
                (step, "train", {"loss": 8.0 / step, "energy_mae": 1.0 / step, "lr": 0.002, "grad_norm": 3.0})
                for step in range(1, 9)
            ),
            *((step, "val", {"loss": 9.0 / step, "energy_mae": 2.0 / step}) for step in (4, 8)),
        ],
    )
    return tmp_path / "run"
