"""Batches that cannot fit are refused, all others are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from ase import Atoms

from ev2_plugin.integration import memory_guard
from ev2_plugin.integration.backbone import EquiformerV2
from ev2_plugin.integration.memory_guard import MemoryGuard, TooLittleMemoryError
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.memory_bound import least_memory
from ev2_plugin.relax.faults import is_out_of_memory
from helpers import tiny_s2ef
from helpers.structures import TINY, atom_batch, host_batch, slab

Free = Callable[[float], None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Say how much memory is free, and have every batch looked at."""
    monkeypatch.setattr(memory_guard, "NOT_ASKED", 0)

    def set_free(number: float) -> None:
        monkeypatch.setattr(memory_guard, "free_memory", lambda device: number)

    return set_free


def needed(model: Backbone, structures: list[Atoms], *, training: bool) -> int:
    atoms = atom_batch(structures)
    with torch.set_grad_enabled(training):
        return least_memory(model, len(atoms.batch), len(atoms.graph.senders))


@pytest.mark.parametrize("training", [False, True])
def test_what_fits_to_the_byte_is_let_through_and_one_byte_more_is_refused(free: Free, training: bool) -> None:
    model, atoms = Backbone(TINY), atom_batch([slab(), slab()])
    size = needed(model, [slab(), slab()], training=training)
    with torch.set_grad_enabled(training):
        free(size)
        MemoryGuard().check(model, atoms)
        free(size - 1)
        with pytest.raises(TooLittleMemoryError) as refused:
            MemoryGuard().check(model, atoms)
    said = str(refused.value)
    what = "a training step on" if training else "a prediction of"
    assert said.startswith(f"{what} 2 structures of {len(atoms.batch)} atoms together and {len(atoms.graph.senders)}")
    assert "GB are free on cpu" in said
    assert "optim.batch_size" in said
    assert ("activation_checkpoint: block" in said) == training
    assert "--gp-gpus" in said
    assert is_out_of_memory(refused.value)  # relaxations go on with smaller batches


def test_a_way_out_that_is_taken_is_not_named(free: Free) -> None:
    free(0)
    model = Backbone(replace(TINY, activation_checkpoint="block"))
    with pytest.raises(TooLittleMemoryError, match=r"a training step on a structure of 10 atoms") as refused:
        MemoryGuard().check(model, atom_batch([slab()]))
    assert "activation_checkpoint" not in str(refused.value)
    assert "batch_size" not in str(refused.value)


def test_what_was_computed_once_is_never_refused(free: Free) -> None:
    model, guard = Backbone(TINY), MemoryGuard()
    free(1e12)
    guard.check(model, atom_batch([slab(), slab()]))
    free(0)
    guard.check(model, atom_batch([slab(), slab()]))
    guard.check(model, atom_batch([slab()]))
    with pytest.raises(TooLittleMemoryError):
        guard.check(model, atom_batch([slab()] * 3))


def test_nobody_is_refused_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_guard, "NOT_ASKED", 0)
    monkeypatch.setattr(memory_guard, "free_memory", lambda device: None)
    MemoryGuard().check(Backbone(TINY), atom_batch([slab()]))


def test_memory_is_given_back_before_anybody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, answers = Backbone(TINY), [0.0, 1e12]
    monkeypatch.setattr(memory_guard, "NOT_ASKED", 0)
    monkeypatch.setattr(memory_guard, "free_memory", lambda device: answers.pop(0))
    MemoryGuard().check(model, atom_batch([slab()]))
    assert not answers


def test_models_ask_before_they_compute(free: Free) -> None:
    settings = {key: value for key, value in tiny_s2ef.FLAT_MODEL.items() if key != "name"}
    model = EquiformerV2(**settings).eval()
    model.predict = None  # whoever calls it fails otherwise
    free(0)
    with torch.no_grad(), pytest.raises(TooLittleMemoryError, match="a prediction of a structure of 10 atoms"):
        model(host_batch([slab()]))


def test_small_batches_do_not_even_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(device: torch.device) -> int:
        raise AssertionError("asked")

    monkeypatch.setattr(memory_guard, "free_memory", never)
    model, atoms, guard = Backbone(TINY), atom_batch([slab()]), MemoryGuard()
    start = time.perf_counter()
    for _ in range(100):
        guard.check(model, atoms)
    assert (time.perf_counter() - start) / 100 < 1e-3  # 40 us when nobody disturbs; a step takes tens of ms
