"""What the backward pass keeps, against what is known of it and against the operating system's count."""

import ctypes
import gc
from pathlib import Path

import pytest
import torch
from ase.build import fcc111
from torch import nn

from ev2_plugin.integration.check.memory import ActivationMeter, training_memory
from ev2_plugin.model.batch import AtomBatch, build_batch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.equiformer_v2 import EquiformerV2

PAGE = 4096
LIBC = ctypes.CDLL(None)


def test_each_storage_counts_once_while_it_is_kept() -> None:
    meter = ActivationMeter([])
    x = torch.randn(1000, requires_grad=True)
    with meter.watch():
        y = x.sin()  # keeps x
        z = y.view(10, 100).exp()  # keeps its result
        loss = (z * y.view(10, 100)).sum()  # keeps both factors: z again, and y
    assert meter.peak == 3 * 4000
    loss.backward()
    del loss, y, z
    gc.collect()
    with meter.watch():
        x.sin().sum().backward()
    assert meter.peak == 3 * 4000  # the first step's is gone, or this would be more


def test_parameters_do_not_count() -> None:
    layer = nn.Linear(30, 20)
    x = torch.randn(5, 30, requires_grad=True)
    meter = ActivationMeter(layer.parameters())
    with meter.watch():
        layer(x).sum()
    assert meter.peak == 5 * 30 * 4


def slab(size: tuple[int, int, int], config: ModelConfig) -> AtomBatch:
    atoms = fcc111("Cu", size, vacuum=8.0, periodic=True)
    return build_batch(
        torch.tensor(atoms.numbers),
        torch.tensor(atoms.positions, dtype=torch.float32),
        torch.tensor(atoms.cell.array, dtype=torch.float32)[None],
        torch.tensor(atoms.pbc)[None],
        torch.tensor([len(atoms)]),
        config,
    )


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.skipif(not hasattr(LIBC, "malloc_trim"), reason="needs glibc and Linux to tell resident memory")
def test_activations_are_about_what_the_process_grows_by() -> None:
    config = ModelConfig(
        avg_num_nodes=50.0, avg_degree=20.0, lmax=4, mmax=2, num_layers=3, sphere_channels=64, attn_hidden_channels=64,
        ffn_hidden_channels=64, grid_resolution=12, edge_channels=32, num_radial_basis=64, max_radius=6.0,
        max_neighbors=20, norm_type="layer_norm_sh", use_grid_mlp=True,
    )  # fmt: skip
    model = EquiformerV2(config)
    model.predict(slab((1, 1, 2), config))["forces"].sum().backward()  # what is made once is made
    atoms = slab((4, 4, 3), config)
    meter = ActivationMeter([*model.parameters(), *model.buffers()])
    LIBC.malloc_trim(0)  # or what earlier tests have freed would be taken again
    before = resident()
    with meter.watch():
        loss = model.predict(atoms)["forces"].sum()
    grown = resident() - before
    loss.backward()
    print(meter.peak / grown)
    assert meter.peak > 50e6
    assert meter.peak / 2 < grown < 2 * meter.peak


def test_memory_of_weights() -> None:
    model = nn.Linear(100, 10)
    model.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    guessed = training_memory(model, optimizer, [], 80, 4)  # the step was left out
    assert (guessed.weights, guessed.gradients, guessed.moments) == (4040, 2 * 4000, 2 * 4000)
    assert (guessed.averaged, guessed.activations, guessed.per_structure) == (0, 80, 20)
    model(torch.randn(2, 100)).sum().backward()
    optimizer.step()
    assert training_memory(model, optimizer, [torch.zeros(7)], 80, 4).moments == 2 * 4000 + 4
    assert training_memory(model, optimizer, [torch.zeros(7)], 80, 4).averaged == 28
    assert training_memory(model, torch.optim.SGD(model.parameters()), [], 80, 4).moments == 0
