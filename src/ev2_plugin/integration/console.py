"""What several ranks say on one console: rank 0 everything, the others what only they know."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any


class RankHandler(logging.StreamHandler):
    """Shows errors, later warnings too, with the rank before them.

    Args:
        rank: The rank.
    """

    def __init__(self, rank: int) -> None:
        super().__init__(sys.stderr)
        self.setLevel(logging.ERROR)
        self.setFormatter(logging.Formatter(f"rank {rank}: %(levelname)s: %(message)s"))
        self.addFilter(lambda record: record.name != "py.warnings")  # of the code, which all ranks run


def quiet_unless_first(config: dict[str, Any]) -> None:
    """On ranks other than 0 show errors alone and no progress bars.

    While a run is set up all ranks have the same to say. What follows may differ: then `allow_warnings`.

    Args:
        config: Of the run; its progress bars are turned off here.
    """
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        return
    logging.getLogger().handlers[:] = [RankHandler(rank)]  # the host adds its own only where there are none
    logging.captureWarnings(True)
    config["hide_eval_progressbar"] = True


def allow_warnings() -> None:
    """From now on a rank other than 0 may warn of what happens to it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RankHandler):
            handler.setLevel(logging.WARNING)
