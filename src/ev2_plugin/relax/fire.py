"""FIRE, the fast inertial relaxation engine, for many structures at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ev2_plugin.relax.optimizer import Memory
from ev2_plugin.relax.per_structure import segments
from ev2_plugin.relax.positive import require_positive


@dataclass(frozen=True)
class FIRE:
    """FIRE with ASE's step rules and names, each structure with a velocity and a time step of its own.

    Args:
        dt: First time step.
        maxstep: Longest step of a structure, as the norm over all its coordinates [Å].
        dtmax: Largest time step.
        Nmin: Steps downhill after which the time step grows.
        finc: Factor by which it grows.
        fdec: Factor by which it shrinks after a step uphill.
        astart: Share of the force's direction in the velocity at first and after a step uphill.
        fa: Factor by which that share shrinks.

    Raises:
        ValueError: If a setting is not positive.

    Source: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006); step rules of ase.optimize.FIRE.
    """

    dt: float = 0.1
    maxstep: float = 0.2
    dtmax: float = 1.0
    Nmin: int = 5
    finc: float = 1.1
    fdec: float = 0.5
    astart: float = 0.1
    fa: float = 0.99

    def __post_init__(self) -> None:
        require_positive(self)

    def start(self, natoms: Int[Tensor, " structures"]) -> Memory:
        """Structures at rest."""
        ones = torch.ones(len(natoms), dtype=torch.float64, device=natoms.device)
        velocity = torch.zeros(int(natoms.sum()), 3, dtype=torch.float64, device=natoms.device)
        downhill = torch.zeros(len(natoms), dtype=torch.long, device=natoms.device)
        return Memory(
            {"velocity": velocity},
            {"dt": self.dt * ones, "a": self.astart * ones, "downhill": downhill, "moved": downhill.clone()},
        )

    def step(
        self,
        memory: Memory,
        positions: Float[Tensor, "atoms 3"],
        forces: Float[Tensor, "atoms 3"],
        natoms: Int[Tensor, " structures"],
    ) -> tuple[Tensor, Memory]:
        """Displacements in Å and the memory after them."""
        of = segments(natoms, len(positions))
        velocity, old = memory.of_atoms["velocity"], memory.of_structures
        moved, downhill, dt, a = old["moved"] > 0, old["downhill"], old["dt"], old["a"]
        goes_down = of.dot(forces, velocity) > 0
        goes_up = moved & ~goes_down  # the first step is neither

        speed, force = of.dot(velocity, velocity).sqrt(), of.dot(forces, forces).sqrt()
        turn = torch.where(goes_down, a * speed / force, 0)
        keep = torch.where(goes_down, 1 - a, torch.where(goes_up, 0, 1))
        velocity = velocity * of.spread(keep) + forces * of.spread(turn)

        faster = goes_down & (downhill > self.Nmin)
        dt = torch.where(faster, (dt * self.finc).clamp(max=self.dtmax), torch.where(goes_up, dt * self.fdec, dt))
        a = torch.where(faster, a * self.fa, torch.where(goes_up, self.astart, a))
        downhill = torch.where(goes_up, 0, downhill + goes_down)

        velocity = velocity + forces * of.spread(dt)
        displacement = velocity * of.spread(dt)
        length = of.dot(displacement, displacement).sqrt()
        scale = torch.where(length > self.maxstep, self.maxstep / length, 1)
        return displacement * of.spread(scale), Memory(
            {"velocity": velocity}, {"dt": dt, "a": a, "downhill": downhill, "moved": torch.ones_like(downhill)}
        )
