"""Models as potentials: structures in, energies and forces in eV and Å out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from fairchem.core.models.base import HydraModel
from torch import Tensor, nn
from torch_geometric.data import Batch

from ev2_plugin.graph.edge_graph import EdgeGraph
from ev2_plugin.graph.kept_neighbors import Geometry, KeptNeighbors, edges_of_structures
from ev2_plugin.graph.neighbors import NeighborRule, radius_graph
from ev2_plugin.graph.structure_error import StructureError
from ev2_plugin.integration.backbone import EquiformerV2, EquiformerV2Backbone
from ev2_plugin.integration.energy_kind import EnergyKind, energy_kind
from ev2_plugin.integration.heads import EnergyHead, ForceHead, StressHead
from ev2_plugin.integration.model_outputs import ModelOutputs
from ev2_plugin.model.batch import AtomBatch, check_elements
from ev2_plugin.potential.protocol import Prediction
from ev2_plugin.potential.structures import Structures

NEEDED = ("energy", "forces")
"""Outputs without which a model is no potential."""


class _OfModel(ABC):
    """What both kinds of potential share.

    Args:
        model: It predicts `energy` and `forces`; put into evaluation mode at every call.
        outputs: How its predictions become physical.
        energy_kind: What its energies are.
        autocast_dtype: Half precision as in training with `optim.precision`; None for that of the weights.

    Raises:
        ValueError: If the model predicts no energy or no forces.
    """

    def __init__(
        self,
        model: nn.Module,
        outputs: ModelOutputs,
        energy_kind: EnergyKind,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        missing = [name for name in NEEDED if name not in outputs.targets]
        if missing:
            raise ValueError(
                f"a potential needs energy and forces, but the model's outputs are {', '.join(outputs.targets)}: "
                f"{' and '.join(missing)} missing"
            )
        self.model, self.outputs, self.autocast_dtype = model, outputs, autocast_dtype
        self.energy_kind = energy_kind

    def __str__(self) -> str:
        return f"{type(self.model).__name__} on {self.device}; energy: {self.energy_kind}"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def properties(self) -> tuple[str, ...]:
        """What `evaluate` can be asked for."""
        return (*NEEDED, *(["stress"] if "stress" in self.outputs.targets else []))

    def __call__(self, structures: Structures) -> Prediction:
        """Energies [structures] and forces [atoms, 3], summed up in float64, on the model's device."""
        found = self.evaluate(structures, NEEDED)
        return Prediction(found["energy"].squeeze(1), found["forces"])

    def evaluate(self, structures: Structures, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Some of `properties` in eV and Å, [structures or atoms, width].

        Args:
            structures: Positions in float64 give edges from float64; the model then takes them in its own precision.
            names: Properties.
        """
        return self.evaluate_batch(self.batch(structures.to(self.device)), names)

    @torch.no_grad()
    def evaluate_batch(self, batch: Any, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Some of `properties` of what `batch` returned, as `evaluate` gives them."""
        if self.model.training:
            self.model.eval()
        with torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            said = self.model(batch)
        return self.outputs.physical(said, batch, names)

    @abstractmethod
    def batch(self, structures: Structures) -> Any:
        """What the model takes: structures on its device, with their edges."""


class ModelPotential(_OfModel):
    """A model of the plugin: flat, or in the host's hydra model with the plugin's backbone and heads.

    Neighbours found for a structure serve while its atoms stay within a skin (`neighbors`); the edges are those that a
    new search would find.

    Raises:
        ValueError: If the model is not of the plugin, or predicts no energy or forces.
    """

    def __init__(
        self,
        model: nn.Module,
        outputs: ModelOutputs,
        energy_kind: EnergyKind,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, outputs, energy_kind, autocast_dtype)
        if not is_of_plugin(model):
            raise ValueError(f"{type(model).__name__} is not a model of ev2_plugin: HostModelPotential takes it")
        self.backbone: EquiformerV2 | EquiformerV2Backbone = (
            model.backbone if isinstance(model, HydraModel) else model  # type: ignore[assignment]
        )
        self.neighbors = KeptNeighbors(self.backbone.config.neighbor_rule)

    def num_edges(self, structures: Structures) -> list[int]:
        """Edges of each structure within cutoff and neighbour limit."""
        with _named(structures):
            return self.neighbors.count(self._geometry(structures.to(self.device)))

    @torch.no_grad()
    def batch(self, structures: Structures, edges: EdgeGraph | None = None) -> AtomBatch:
        """Structures with their edges, in the weights' precision.

        Args:
            structures: On the model's device.
            edges: Those to take instead of the ones that are found.

        Raises:
            StructureError: Naming the structure with an element that is not in the tables, or as `edges` does.
        """
        dtype = self.backbone.sphere_embedding.weight.dtype
        with _named(structures):
            check_elements(structures.atomic_numbers, structures.natoms, self.backbone.config.max_num_elements)
        graph = self.edges(structures) if edges is None else edges
        graph = replace(graph, vectors=graph.vectors.to(dtype))
        if isinstance(self.model, HydraModel):
            self.model.device = self.device.type  # which it would take from the tensors of a host batch
        return AtomBatch(structures.atomic_numbers, structures.natoms, graph)

    def edges(self, structures: Structures) -> EdgeGraph:
        """Edges within cutoff and neighbour limit, vectors in the precision of the positions.

        Raises:
            StructureError: Naming the structure with atoms that coincide, a singular cell or positions that are no
                numbers.
        """
        with _named(structures):
            return self.neighbors.graph(self._geometry(structures))

    def _geometry(self, structures: Structures) -> Geometry:
        pbc = structures.pbc if self.backbone.options.use_pbc else torch.zeros_like(structures.pbc)
        return Geometry(structures.ids, structures.positions, structures.cells, pbc, structures.natoms)


class HostModelPotential(_OfModel):
    """Any other model that fairchem's trainers take, through a batch as its collater makes them."""

    def num_edges(self, structures: Structures) -> list[int]:
        """Edges of each structure within the model's cutoff and neighbour limit; atoms of a model without."""
        backbone = getattr(self.model, "backbone", self.model)
        cutoff, limit = getattr(backbone, "cutoff", None), getattr(backbone, "max_neighbors", None)
        if cutoff is None or limit is None:
            return structures.natoms.tolist()
        rule = NeighborRule(float(cutoff), int(limit), getattr(backbone, "enforce_max_neighbors_strictly", True))
        there = structures.to(self.device)
        graph = radius_graph(there.positions, there.cells, there.pbc, there.natoms, rule)
        return edges_of_structures(graph, there.natoms)

    def batch(self, structures: Structures) -> Batch:
        """Structures as the host's collater hands them over.

        Raises:
            ValueError: If they differ in periodicity.
        """
        if len(structures.pbc.unique(dim=0)) > 1:
            raise ValueError(
                f"fairchem's models take the periodicity of a batch's first structure for all, but {structures.ids[0]} "
                "and others differ in it: give structures of one periodicity at a time"
            )
        return host_batch(structures)


@contextmanager
def _named(structures: Structures) -> Iterator[None]:
    """Say by its id which structure cannot be right."""
    try:
        yield
    except StructureError as error:
        raise error.named(f"structure {structures.ids[error.place]}") from error


def is_of_plugin(model: nn.Module) -> bool:
    """Whether a model takes an `AtomBatch`: it, or its backbone and all of its heads, are the plugin's."""
    if not isinstance(model, HydraModel):
        return isinstance(model, EquiformerV2)
    heads = model.output_heads.values()
    return isinstance(model.backbone, EquiformerV2Backbone) and all(
        isinstance(head, EnergyHead | ForceHead | StressHead) for head in heads
    )


def potential_of(
    model: nn.Module, outputs: ModelOutputs, kind: EnergyKind, autocast_dtype: torch.dtype | None = None
) -> ModelPotential | HostModelPotential:
    """The kind of potential that the model needs."""
    made = ModelPotential if is_of_plugin(model) else HostModelPotential
    return made(model, outputs, kind, autocast_dtype)


def potential_of_trainer(trainer: Any) -> ModelPotential | HostModelPotential:
    """A trainer's model with the weights it has at each call; averaged ones are the caller's to put in.

    Args:
        trainer: The plugin's or the host's, its references and normalisers loaded.
    """
    outputs = ModelOutputs(trainer.output_targets, trainer.normalizers, trainer.elementrefs)
    kind = energy_kind(trainer.config, trainer.normalizers, trainer.elementrefs)
    return potential_of(trainer._unwrapped_model, outputs, kind, getattr(trainer, "autocast_dtype", None))


def host_batch(structures: Structures) -> Batch:
    """Structures as the host's collater hands them to a model: in single precision.

    Args:
        structures: Not empty.
    """
    fields: Mapping[str, Tensor] = {
        "pos": structures.positions.float(),
        "atomic_numbers": structures.atomic_numbers,
        "cell": structures.cells.float(),
        "pbc": structures.pbc,
        "natoms": structures.natoms,
        "batch": structures.batch,
        "tags": structures.tags,
        "fixed": structures.fixed.float(),
    }
    batch = Batch(**fields, sid=list(structures.ids))
    batch.ptr = torch.nn.functional.pad(structures.natoms.cumsum(0), (1, 0))
    batch._num_graphs = len(structures)
    return batch
