"""Who is in a batch, who leaves, and what happens when something goes wrong."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from ev2_plugin.potential.protocol import Potential, Prediction
from ev2_plugin.potential.structures import Structures
from ev2_plugin.relax.faults import RelaxationError
from ev2_plugin.relax.fire import FIRE
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.lbfgs import LBFGS
from ev2_plugin.relax.optimizer import Optimizer
from ev2_plugin.relax.relaxation import Relaxation
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import AtomsSource
from helpers.potentials import Wells, emt, rough_slabs, scattered


def run(structures: list, potential: Potential, settings: Settings) -> list[Relaxed]:
    relaxation = Relaxation(AtomsSource(structures, [f"s{n}" for n in range(len(structures))]), potential, settings)
    finished: list[Relaxed] = []
    while not relaxation.done:
        finished += relaxation.advance()
    return finished


@pytest.mark.parametrize("optimizer", [LBFGS(), FIRE()])
def test_a_structure_ends_the_same_in_every_company(optimizer: Optimizer) -> None:
    structures = scattered(11)
    ends = []
    for budget in (Budget(max_structures=1), Budget(max_structures=4), Budget(max_edges=13), Budget()):
        found = run(structures, Wells(), Settings(optimizer, fmax=0.01, max_steps=70, budget=budget))
        ends.append({one.index: one for one in found})
    for index, alone in ends[0].items():
        for other in ends[1:]:
            assert (other[index].steps, other[index].energy, other[index].fmax) == (
                alone.steps,
                alone.energy,
                alone.fmax,
            )
            assert np.array_equal(other[index].positions, alone.positions)
    assert len({one.steps for one in ends[0].values()}) > 3  # they leave at different times


def test_a_place_that_becomes_free_is_taken_at_once() -> None:
    potential = Wells()
    found = run(scattered(12), potential, Settings(fmax=0.01, max_steps=40, budget=Budget(max_structures=3)))
    sizes = [len(batch) for batch in potential.batches]
    waiting_until = next(n for n, batch in enumerate(potential.batches) if "s11" in batch)
    assert set(sizes[: waiting_until + 1]) == {3}
    assert sum(sizes) == sum(one.steps + 1 for one in found)  # nothing is evaluated after it is done


def test_a_batch_keeps_within_its_edges_and_takes_a_large_structure_alone() -> None:
    potential = Wells()
    structures = scattered(9)
    run(structures, potential, Settings(fmax=0.01, max_steps=10, budget=Budget(max_edges=7)))
    edges = {f"s{n}": 2 * len(atoms) for n, atoms in enumerate(structures)}
    loads = [(sum(edges[name] for name in batch), len(batch)) for batch in potential.batches]
    assert all(load <= 7 or size == 1 for load, size in loads)
    assert {size for _, size in loads} >= {1, 2}
    assert max(load for load, _ in loads) == 8


def test_limits_are_those_of_the_settings() -> None:
    found = run(scattered(8), Wells(), Settings(fmax=0.05, max_steps=30))
    assert all(one.converged == (one.fmax < 0.05) for one in found)
    assert all(one.steps == 30 or one.converged for one in found)
    assert {one.converged for one in found} == {True, False}
    none = run(scattered(3), Wells(), Settings(max_steps=0))
    assert [one.steps for one in none] == [0, 0, 0]
    assert all(one.energy == one.initial_energy for one in none)


def test_fixed_atoms_stay_and_do_not_count() -> None:
    slabs = rough_slabs(2)
    for one in run(slabs, emt(), Settings(fmax=0.05)):
        assert np.array_equal(one.positions[:4], slabs[one.index].positions[:4])
        assert np.abs(one.positions[4:] - slabs[one.index].positions[4:]).max() > 0.01
        final = slabs[one.index].copy()
        final.positions = one.positions
        final.calc = emt().calculator
        assert np.linalg.norm(final.get_forces(), axis=1).max() == pytest.approx(one.fmax, rel=1e-9)
        assert final.get_potential_energy() == pytest.approx(one.energy, abs=1e-9)


def test_the_sources_structures_are_left_as_they_are() -> None:
    structures = scattered(4)
    before = [atoms.positions.copy() for atoms in structures]
    run(structures, Wells(), Settings(max_steps=5))
    assert all(np.array_equal(atoms.positions, old) for atoms, old in zip(structures, before, strict=True))


@pytest.mark.parametrize(
    "lack",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_memory_makes_batches_smaller_and_costs_no_step(
    lack: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    structures, settings = scattered(10), Settings(fmax=0.01, max_steps=40, budget=Budget(max_structures=6))
    expected = {one.index: one for one in run(structures, Wells(), settings)}
    failures: list[int] = []

    def refuse_large(batch: Structures) -> None:
        if len(potential.batches) > 5 and len(batch.positions) > 7:  # after some steps: there is a state to lose
            failures.append(len(batch))
            raise lack

    potential = Wells(refuse_large)
    with caplog.at_level(logging.WARNING):
        found = run(structures, potential, settings)
    assert 0 < len(failures) < 6  # the smaller size is remembered
    assert "keeping their state" in caplog.text
    assert sorted(one.index for one in found) == list(range(10))
    for one in found:
        assert (one.steps, one.energy) == (expected[one.index].steps, expected[one.index].energy)
        assert np.array_equal(one.positions, expected[one.index].positions)


def test_a_structure_too_large_for_the_memory_alone_is_named() -> None:
    def refuse(batch: Structures) -> None:
        if "s3" in batch.ids:
            raise MemoryError

    with pytest.raises(
        RelaxationError, match=r"structure s3 \(4 atoms, 8 edges\) does not fit into the memory by itself"
    ):
        run(scattered(5), Wells(refuse), Settings())


def test_a_real_error_ends_the_run_and_names_its_structure() -> None:
    calls = []

    def fail(batch: Structures) -> None:
        calls.append(batch.ids)
        if "s2" in batch.ids and len(calls) > 3:
            raise RuntimeError("shape mismatch")

    with pytest.raises(RelaxationError, match="structure s2: shape mismatch") as caught:
        run(scattered(5), Wells(fail), Settings())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(calls) <= 4 + 5  # the batch, then each member until the culprit


def test_a_device_that_is_lost_is_not_blamed_on_the_first_structure() -> None:
    def fail(batch: Structures) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RelaxationError, match="one of the structures s0, s1, s2: CUDA error: an illegal"):
        run(scattered(3), Wells(fail), Settings())


def test_an_error_before_a_structure_enters_names_it() -> None:
    class Uncountable(Wells):
        def num_edges(self, structures: Structures) -> list[int]:
            if structures.ids == ("s4",):
                raise ValueError("atoms 0 and 1 coincide")
            return super().num_edges(structures)

    with pytest.raises(RelaxationError, match="structure s4: atoms 0 and 1 coincide"):
        run(scattered(6), Uncountable(), Settings(budget=Budget(max_structures=2), max_steps=5))


def test_an_error_of_a_batch_as_a_whole_names_all() -> None:
    def fail(batch: Structures) -> None:
        if len(batch) > 1:
            raise RuntimeError("two are too many")

    with pytest.raises(RelaxationError, match="structures s0, s1, s2 together.*two are too many"):
        run(scattered(3), Wells(fail), Settings())


@pytest.mark.parametrize("what", ["energy", "forces"])
def test_numbers_that_are_none_end_the_run_and_name_their_structure(what: str) -> None:
    class Broken(Wells):
        def __call__(self, structures: Structures) -> Prediction:
            prediction = super().__call__(structures)
            if len(self.batches) > 2 and "s1" in structures.ids:
                place = structures.ids.index("s1")
                if what == "energy":
                    prediction.energy[place] = torch.nan
                else:
                    prediction.forces[int(structures.natoms[:place].sum())] = torch.inf
            return prediction

    with pytest.raises(RelaxationError, match="structure s1: its predicted energy or forces are not finite"):
        run(scattered(3), Broken(), Settings())


@pytest.mark.parametrize(("budget", "message"), [({"max_edges": 0}, "max_edges"), ({"max_structures": -1}, "max_str")])
def test_budgets_hold_something(budget: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**budget)


def test_settings_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(ValueError, match="fmax must be a force"):
        Settings(fmax=float("nan"))
    with pytest.raises(ValueError, match="max_steps must be 0 or more, got -1"):
        Settings(max_steps=-1)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [LBFGS(), FIRE()])
def test_a_gpu_takes_the_same_way(optimizer: Optimizer) -> None:
    settings = Settings(optimizer, fmax=0.01, max_steps=70, budget=Budget(max_structures=4))
    here = {one.index: one for one in run(scattered(11), Wells(), settings)}
    there = {one.index: one for one in run(scattered(11), Wells(device="cuda"), settings)}
    for index, one in here.items():
        assert there[index].steps == one.steps
        assert np.abs(there[index].positions - one.positions).max() < 1e-8
