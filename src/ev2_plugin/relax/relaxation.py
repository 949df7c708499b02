"""Structures on their way to their minima: a batch that each one leaves when it is done and others enter at once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ev2_plugin.potential.protocol import Potential, Prediction
from ev2_plugin.potential.structures import rows_of
from ev2_plugin.relax.faults import OutOfMemory, RelaxationError, evaluate, fault_of
from ev2_plugin.relax.group import Group, Member, Relaxed
from ev2_plugin.relax.per_structure import segments
from ev2_plugin.relax.settings import Budget, Settings
from ev2_plugin.relax.source import Source

OnFrame = Callable[[Group, Prediction], None]


class Relaxation:
    """A relaxation of all structures of a source, one evaluation of a batch after the other.

    Args:
        source: Structures; one is read when there is room for it, in their order.
        potential: Energies and forces.
        settings: Optimiser, convergence, budget.
        on_frame: Called with every evaluated batch before its structures move.
    """

    def __init__(
        self,
        source: Source,
        potential: Potential,
        settings: Settings,
        on_frame: OnFrame = lambda group, prediction: None,
    ) -> None:
        self.source, self.potential, self.settings, self.on_frame = source, potential, settings, on_frame
        self.budget: Budget = settings.budget
        self.active: Group | None = None
        self.aside: deque[Group] = deque()
        self.next = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.active is None and not self.aside and self.next == len(self.source)

    def advance(self) -> list[Relaxed]:
        """Fill the batch, evaluate it once, move what is not done.

        Returns:
            The structures that are done and have left the batch.

        Raises:
            RelaxationError: If a structure cannot be evaluated, or not even alone within the memory.
        """
        self._fill()
        group, prediction = self._evaluated()
        free = (~group.structures.fixed).unsqueeze(-1)
        forces = torch.where(free, prediction.forces.double(), 0.0)
        of = segments(group.structures.natoms, len(forces))
        fmax = of.largest(torch.linalg.vector_norm(forces, dim=-1)).tolist()
        energies = prediction.energy.tolist()
        members = tuple(
            member if member.initial_energy is not None else replace(member, initial_energy=energy)
            for member, energy in zip(group.members, energies, strict=True)
        )
        group = replace(group, members=members)
        self.on_frame(group, prediction)

        over = [
            force < self.settings.fmax or member.steps >= self.settings.max_steps
            for force, member in zip(fmax, members, strict=True)
        ]
        finished = [
            self._result(group, place, energies[place], fmax[place]) for place, is_over in enumerate(over) if is_over
        ]
        staying = [place for place, is_over in enumerate(over) if not is_over]
        self.active = self._moved(group, forces, staying) if staying else None
        return finished

    def _fill(self) -> None:
        """Let structures enter while the budget allows: those put aside first, then those that wait."""
        while self.aside or self.next < len(self.source):
            group = self.aside[0] if self.aside else self._entering()
            present = self.active.members if self.active is not None else ()
            together = present + group.members
            if present and not self.budget.holds(sum(member.edges for member in together), len(together)):
                if not self.aside:
                    self.aside.append(group)  # it has been read: it enters as soon as there is room
                return
            if self.aside:
                self.aside.popleft()
            self.active = group if self.active is None else self.active.joined(group)

    def _entering(self) -> Group:
        name = self.source.ids[self.next]
        try:
            structures = self.source[self.next].to(self.potential.device)
            if not len(structures.positions):
                raise ValueError("it has no atoms")
            (edges,) = self.potential.num_edges(structures)
        except Exception as error:  # of the dataset or of the potential: each has its own
            raise fault_of(name, error) from error
        member = Member(self.next, edges)
        self.next += 1
        return Group((member,), structures, self.settings.optimizer.start(structures.natoms))

    def _evaluated(self) -> tuple[Group, Prediction]:
        """The batch and its prediction; what the memory does not suffice for is put aside as it is."""
        assert self.active is not None  # `advance` is called only while there is something to do
        group = self.active
        while isinstance(prediction := evaluate(self.potential, group.structures), OutOfMemory):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            count = len(group.members)
            if count == 1:
                raise RelaxationError(
                    f"structure {group.structures.ids[0]} ({int(group.structures.natoms[0])} atoms, "
                    f"{group.members[0].edges} edges) does not fit into the memory by itself: {prediction.reason}"
                )
            fewer = count * 3 // 4
            leaving = group.select(list(range(fewer, count)))
            self.aside.extendleft(leaving.select([place]) for place in reversed(range(count - fewer)))
            group = group.select(list(range(fewer)))
            edges = sum(member.edges for member in group.members)
            self.budget = replace(self.budget, max_edges=max(edges, 1))
            logging.warning(
                f"out of memory with {count} structures: {count - fewer} wait, keeping their state; batches hold "
                f"at most {edges} edges from now on"
            )
        return group, prediction

    def _result(self, group: Group, place: int, energy: float, fmax: float) -> Relaxed:
        member, one = group.members[place], group.structures.select([place])
        assert member.initial_energy is not None  # set at its first evaluation
        return Relaxed(
            id=one.ids[0],
            index=member.index,
            energy=energy,
            initial_energy=member.initial_energy,
            fmax=fmax,
            steps=member.steps,
            converged=fmax < self.settings.fmax,
            positions=one.positions.cpu().numpy(),
        )

    def _moved(self, group: Group, forces: Tensor, staying: list[int]) -> Group:
        natoms = group.structures.natoms
        if len(staying) < len(group.members):
            forces = forces[rows_of(natoms, staying)]
            group = group.select(staying)
            natoms = group.structures.natoms
        structures = group.structures
        here = structures.positions.double()
        displacement, memory = self.settings.optimizer.step(group.memory, here, forces, natoms)
        # in the positions' own precision, so that what the memory calls a step is what the potential sees
        there = (here + displacement).to(structures.positions.dtype)
        members = tuple(replace(member, steps=member.steps + 1) for member in group.members)
        return Group(members, structures.moved_to(there), memory)
