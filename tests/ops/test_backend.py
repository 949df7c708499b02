import copy
import inspect
import logging
import pickle
from typing import get_args

import pytest
import torch

from ev2_plugin.ops import backend
from ev2_plugin.ops.backend import REFERENCE, Backend, announce, operations


def test_names() -> None:
    assert operations("reference") is REFERENCE
    assert operations("auto") is not REFERENCE


def test_unknown_name() -> None:
    unchecked = inspect.unwrap(operations)  # annotations would refuse it first
    with pytest.raises(ValueError, match=r"backend must be one of \['auto', 'pytorch', .*\], got 'cuda'"):
        unchecked("cuda")
    with pytest.raises(ValueError, match=r"precision must be one of .*, got 'double'"):
        unchecked("auto", "double")


def test_triton_says_why_it_cannot_run_here() -> None:
    with pytest.raises(ValueError, match="backend triton cannot run here: .*NVIDIA GPUs .*on cpu"):
        announce("triton", torch.zeros(1))


def test_auto_says_its_choice_once(caplog: pytest.LogCaptureFixture) -> None:
    backend._say.cache_clear()
    with caplog.at_level(logging.INFO):
        announce("auto", torch.zeros(1))
        announce("auto", torch.zeros(2))
        announce("pytorch", torch.zeros(2))
        announce("reference", torch.zeros(2))
    assert [record.message for record in caplog.records if "backend" in record.message] == [
        record.message for record in caplog.records[:1]
    ]
    assert "backend pytorch for float32 on cpu (not triton: " in caplog.text


def test_auto_on_the_cpu_is_pytorch() -> None:
    x = torch.randn(4, 9, 3)
    grids = torch.randn(8, 9), torch.randn(9, 8)
    ours, plain = operations("auto").silu_on_sphere, operations("pytorch").silu_on_sphere
    assert torch.equal(ours(x, *grids), plain(x, *grids))


def test_the_reference_has_torch_s_own_precision() -> None:
    assert operations("reference", "bf16") is REFERENCE  # the model runs it under autocast
    with pytest.raises(ValueError, match="backend reference multiplies as torch does"):
        operations("reference", "high")


@pytest.mark.parametrize("name", get_args(Backend))
def test_layers_that_hold_operations_can_be_copied_and_pickled(name: Backend) -> None:
    ops = operations(name, "bf16")
    x = torch.randn(3)
    for other in (copy.deepcopy(ops), pickle.loads(pickle.dumps(ops))):
        assert torch.equal(other.silu(x), ops.silu(x))
