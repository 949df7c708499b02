"""`ev2_plugin.load`: a trained model that a user keeps in hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ev2_plugin.integration.batch_prediction import (
    ON_CPU,
    AnyPotential,
    Predicted,
    bare_structures,
    embed_each,
    predict_each,
)
from ev2_plugin.integration.calculator import Calculator
from ev2_plugin.integration.energy_kind import EnergyKind
from ev2_plugin.integration.inspection import Facts, inspect_checkpoint
from ev2_plugin.integration.loading import load_with_config
from ev2_plugin.integration.potential import ModelPotential, potential_of
from ev2_plugin.integration.relaxation_budget import fitting_edges
from ev2_plugin.relax.settings import Budget
from ev2_plugin.relax.source import AtomsSource

OnProgress = Callable[[int, int], None]
"""Called with the number of structures that are done and of all."""

T = TypeVar("T")


def load(path: str | Path, device: str = "auto", trust: bool = False) -> LoadedModel:
    """Load a trained model.

    Args:
        path: A checkpoint of fairchem's trainers or the plugin's, or `*.safetensors` written by `ev2 convert`.
        device: `auto` (CUDA if there is any), or a device of torch.
        trust: Whether the file comes from somebody trusted: then what it asks for is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If the file holds more than data. Nothing was executed.
        ValueError: If weights, normalisers or references of the file are missing, left over or of another shape, or the
            device is not there.
    """
    return LoadedModel(Path(path), *load_with_config(path, device, trust=trust))


class LoadedModel:
    """A trained model: predictions and features of many structures, a calculator, and what is known of it.

    Args:
        path: The checkpoint.
        potential: Its model.
        config: Its config.

    Attributes:
        path: The checkpoint.
        potential: The model, which takes structures as tensors.
        config: The checkpoint's config, in the form of today.
    """

    def __init__(self, path: Path, potential: AnyPotential, config: dict[str, Any]) -> None:
        self.path, self.potential, self.config = path, potential, config

    def __repr__(self) -> str:
        cutoff = "unknown" if self.cutoff is None else f"{self.cutoff:g} Å"
        parts = (
            type(self.potential.model).__name__,
            f"{self.num_parameters:,} parameters",
            f"on {self.device}",
            f"energy: {self.energy_kind.name}",
            f"cutoff: {cutoff}",
            f"elements: {_in_short(self.elements)}",
        )
        return f"<{', '.join(parts)}>"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.potential.device

    @property
    def energy_kind(self) -> EnergyKind:
        """What the energies are: total, referenced, adsorption energies, or unknown; and where that is known from."""
        return self.potential.energy_kind

    @property
    def properties(self) -> tuple[str, ...]:
        """What the model predicts: energy, forces and perhaps stress."""
        return self.potential.properties

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.potential.model.parameters())

    @property
    def cutoff(self) -> float | None:
        """Longest edges in Å; None for a model that does not say."""
        if isinstance(self.potential, ModelPotential):
            return self.potential.backbone.config.max_radius
        return getattr(getattr(self.potential.model, "backbone", self.potential.model), "cutoff", None)

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that the model takes: those of its tables, and with element references only those that have one.

        None of another model of fairchem's without references, which does not say. A model takes elements of its
        tables that were in no training structure too; what it says of them means nothing.
        """
        known = [
            {z for z, value in enumerate(one.element_references.tolist()) if value == value}
            for one in self.potential.outputs.references.values()
        ]
        if isinstance(self.potential, ModelPotential):
            known.append(set(range(self.potential.backbone.config.max_num_elements)))
        if not known:
            return ()
        return tuple(chemical_symbols[z] for z in sorted(set.intersection(*known)) if 0 < z < len(chemical_symbols))

    @cached_property
    def facts(self) -> Facts:
        """All that the file says of itself, by section and name, as `ev2 inspect --json` prints it."""
        return inspect_checkpoint(self.path)

    def predict(
        self,
        structures: Sequence[Atoms],
        *,
        ids: Sequence[str] | None = None,
        batch_edges: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Predicted]:
        """Energies, forces and, if the model predicts it, stress of structures, in their order.

        Those of one structure do not depend on the others, to rounding. The structures are not changed; constraints
        are not looked at.

        Args:
            structures: Any number, of any periodicity.
            ids: Names for errors; numbers from 0 without.
            batch_edges: Most edges evaluated at a time (atoms, with models that have none); None for what fits into
                the GPU's memory by estimate, and for 16,384 on a CPU.
            on_progress: Called after every structure.

        Raises:
            MemoryError: If the memory does not suffice for a structure alone.
            ValueError: Naming a structure with no atoms, elements that the model does not know, coincident atoms or a
                singular cell, or whose predictions are not finite.
        """
        named = self._ids(structures, ids)
        found = predict_each(
            self.potential, bare_structures(structures, named), self._budget(structures, named, batch_edges)
        )
        return list(_counted(found, len(structures), on_progress))

    def embeddings(
        self,
        structures: Sequence[Atoms],
        *,
        all_coefficients: bool = False,
        ids: Sequence[str] | None = None,
        batch_edges: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[np.ndarray]:
        """Features of each atom after the final norm: what the model's heads read.

        Args:
            structures: As for `predict`, like all that follows.
            all_coefficients: Whether the coefficients of all degrees are wanted. They turn with the structure, by the
                Wigner matrices of the rotation, to the error of the sphere grid.
            ids: Names for errors.
            batch_edges: Most edges at a time.
            on_progress: Called after every structure.

        Returns:
            For each structure its invariant features, [atoms, channels]; or all of them, degree-major as e3nn orders
            them, [atoms, (lmax + 1)^2, channels], of which the first coefficient is the invariant one.

        Raises:
            MemoryError: If the memory does not suffice for a structure alone.
            ValueError: If the model is not of ev2_plugin, or naming a structure that it cannot take.
        """
        if not isinstance(self.potential, ModelPotential):
            raise ValueError(
                f"{type(self.potential.model).__name__} is a model of fairchem's own: only those of ev2_plugin (and "
                "EquiformerV2 of fairchem, which the plugin replaces) give features of atoms"
            )
        named = self._ids(structures, ids)
        features = embed_each(
            self.potential, bare_structures(structures, named), self._budget(structures, named, batch_edges)
        )
        wanted = (one if all_coefficients else one[:, 0].copy() for one in features)
        return list(_counted(wanted, len(structures), on_progress))

    def calculator(self) -> Calculator:
        """A calculator for ASE, over the same weights."""
        potential = self.potential
        return Calculator.around(
            potential_of(potential.model, potential.outputs, potential.energy_kind, potential.autocast_dtype), self.path
        )

    def _ids(self, structures: Sequence[Atoms] | Atoms, ids: Sequence[str] | None) -> list[str]:
        if isinstance(structures, Atoms):
            raise ValueError("give a list of structures, [atoms], not a single one")
        if ids is not None and len(ids) != len(structures):
            raise ValueError(f"{len(ids)} ids for {len(structures)} structures")
        return [str(number) for number in range(len(structures))] if ids is None else list(ids)

    def _budget(self, structures: Sequence[Atoms], ids: list[str], batch_edges: int | None) -> Budget:
        if batch_edges is not None:
            return Budget(max_edges=batch_edges)
        if isinstance(self.potential, ModelPotential) and self.device.type == "cuda" and structures:
            bare = [Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc) for one in structures]
            return Budget(max_edges=fitting_edges(AtomsSource(bare, ids), self.potential, self.config))
        return ON_CPU


def _counted(found: Iterator[T], total: int, on_progress: OnProgress | None) -> Iterator[T]:
    for done, one in enumerate(found, start=1):
        yield one
        if on_progress is not None:
            on_progress(done, total)


def _in_short(elements: tuple[str, ...]) -> str:
    """The first and the last of elements without a gap, otherwise all."""
    if not elements:
        return "unknown"
    numbers = [chemical_symbols.index(one) for one in elements]
    if len(elements) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{elements[0]} to {elements[-1]}"
    return " ".join(elements)
