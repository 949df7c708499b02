"""A SLURM cluster for the tests that need one, started once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from helpers.slurm_cluster import INSTALL, SlurmCluster, missing_commands


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """Two nodes on this machine."""
    if missing := missing_commands():
        pytest.skip(f"SLURM is not installed ({', '.join(missing)} missing): {INSTALL}")
    if os.geteuid() != 0:
        pytest.skip("the cluster's daemons are started as root")
    started = SlurmCluster()
    yield started
    started.stop()
