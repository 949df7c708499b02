from typing import Any

import pytest

from helpers import tiny_s2ef


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four slabs in the Open Catalyst layout: the `dataset.train` part of a config."""
    return tiny_s2ef.write_dataset("lmdb", tmp_path_factory.mktemp("slabs") / "data")
