"""The scripts of benchmarks/ import one another by plain names, as they do when they are run."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """The host leaves variables of torch's process groups behind."""
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
