import pytest

from ev2_plugin.ops.backend import REFERENCE, operations


def test_names() -> None:
    assert operations("reference") is REFERENCE
    assert operations("auto") is not REFERENCE


def test_unknown_name() -> None:
    unchecked = getattr(operations, "__wrapped__", operations)  # annotations would refuse it first
    with pytest.raises(ValueError, match=r"backend must be one of \['auto', 'reference'\], got 'cuda'"):
        unchecked("cuda")
