"""The plugin's trainer, which writes down what it trains on and can be made slow enough to be disturbed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from fairchem.core.common import distutils
from torch import Tensor

from ev2_plugin.integration.optimizer_steps import sample_ids
from ev2_plugin.integration.trainer import Trainer

PACE = "EV2_TEST_SECONDS_PER_STEP"
FAULT = "EV2_TEST_FAULT_AT_STEP"


class RecordingTrainer(Trainer):
    """Appends a line for each batch to a file of this rank in the folder of results."""

    def _backward(self, loss: Tensor) -> None:
        record = {"step": self.step, "samples": sample_ids(self.last_batch), "loss": loss.item().hex()}
        path = Path(self.config["cmd"]["results_dir"]) / f"samples.{distutils.get_rank()}.jsonl"
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if str(self.step) == os.environ.get(FAULT):
            raise RuntimeError("a fault of the test")
        super()._backward(loss)
        time.sleep(float(os.environ.get(PACE, "0")))
