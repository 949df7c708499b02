"""The same input gives the same bits, with every backend, on every device at hand."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from ev2_plugin.model.batch import AtomBatch, build_batch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2
from ev2_plugin.ops.backend import Backend
from helpers.models import fill_by_name
from helpers.structures import TINY, assorted, tensors

SEPARABLE = replace(TINY, lmax=3, mmax=2, use_sep_s2_act=True, use_grid_mlp=True)
on_gpu = pytest.mark.gpu
CASES = [
    *(pytest.param(backend, "cpu", id=f"{backend} on cpu") for backend in get_args(Backend) if backend != "triton"),
    *(pytest.param(backend, "cuda", id=f"{backend} on cuda", marks=on_gpu) for backend in get_args(Backend)),
]


def model_and_atoms(config: ModelConfig, device: str) -> tuple[EquiformerV2, AtomBatch]:
    model = fill_by_name(EquiformerV2(config)).to(device)
    inputs = [t.to(device) for t in tensors(assorted() * 4, torch.float32)]
    return model, build_batch(*inputs, config)


def step(model: EquiformerV2, atoms: AtomBatch) -> list[Tensor]:
    out = model.predict(atoms)
    loss = out["energy"].sum() + out["forces"].sin().sum()
    return [*out.values(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize(("backend", "device"), CASES)
def test_the_same_bits_twice(backend: Backend, device: str) -> None:
    model, atoms = model_and_atoms(replace(SEPARABLE, backend=backend), device)
    for ours, again in zip(step(model, atoms), step(model, atoms), strict=True):
        assert torch.equal(ours, again)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["pytorch", "triton"])
def test_forward_and_backward_never_wait_for_the_device(backend: Backend) -> None:
    model, atoms = model_and_atoms(replace(SEPARABLE, backend=backend), "cuda")
    step(model, atoms)  # tables are copied to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(model, atoms)
    finally:
        torch.cuda.set_sync_debug_mode("default")
