"""Shape annotations are checked on every call while tests run; one thread per process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("ev2_plugin", "beartype.beartype")

import pytest  # noqa: E402  the hook must come before anything imports the package
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def restored_process_state() -> Iterator[None]:
    """Give the host's marks in the environment and in the root logger back after a run in this process."""
    environment, root_logger = dict(os.environ), logging.getLogger()
    handlers, level = list(root_logger.handlers), root_logger.level
    yield
    os.environ.clear()
    os.environ.update(environment)
    root_logger.handlers[:] = handlers
    root_logger.setLevel(level)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions."""
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none, however pytest was called."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
