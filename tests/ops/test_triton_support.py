from types import SimpleNamespace

import pytest
import torch

from ev2_plugin.ops import triton_support
from ev2_plugin.ops.triton_support import supports


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "INSTALLED", True)
    monkeypatch.setattr(triton_support, "INTERPRETED", False)


def test_cpu() -> None:
    assert supports(torch.zeros(1)) == (
        "the kernels run on NVIDIA GPUs (device cuda), the tensors are on cpu; use backend pytorch"
    )


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "INSTALLED", False)
    assert "pip install triton" in str(supports(torch.zeros(1)))


def test_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "INTERPRETED", True)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert supports(torch.zeros(1, dtype=dtype)) is None
    assert supports(torch.zeros(1, dtype=torch.float16)) == (
        "the kernels compute float32 or bfloat16 or float64, the tensors are float16"
    )


@pytest.mark.gpu
def test_gpu() -> None:
    assert supports(torch.zeros(1, device="cuda")) is None
    assert "float64" in str(supports(torch.zeros(1, device="cuda", dtype=torch.float64)))


def test_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnOldGPU:
        device, dtype = torch.device("cuda:0"), torch.float32

    monkeypatch.setattr(torch.version, "cuda", "12.1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=7))
    unchecked = getattr(supports, "__wrapped__", supports)  # annotations would refuse the stand-in first
    assert "compute capability 7, the kernels need 8" in unchecked(OnOldGPU())
