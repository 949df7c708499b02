"""Peak memory and largest batch of a run, from its config: nothing is trained, no GPU is needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from fairchem.core.common.registry import registry
from torch import Tensor, nn

from ev2_plugin.integration.backbone import HostModel
from ev2_plugin.integration.check.keys import key_problems
from ev2_plugin.integration.check.optim import planned_batches
from ev2_plugin.integration.dataset_sizes import StructureSizes
from ev2_plugin.integration.held_memory import HeldMemory, held_memory
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.trainer import PRECISIONS
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.config import ActivationCheckpoint
from ev2_plugin.model.memory_steps import empty_batch, trace_inference, trace_training, without_data
from ev2_plugin.model.memory_trace import MemoryProfile, unit_at_least

LEVELS: tuple[str, ...] = get_args(ActivationCheckpoint)
MOST_TRACED = {"cpu": (331, 1500), "cuda": (40_000, 100_000)}
"""Atoms and edges beyond which memory grows in proportion; a CPU takes edges in small chunks, slow to follow."""
_RETRACED = 3
_CLOSE = 1.05
_NOT_FOLLOWED = ("compile", "cuda_graph_atoms")  # other ways to run the same operations


@dataclass(frozen=True)
class Use:
    """What a model is used for.

    Attributes:
        training: A training step, otherwise a prediction.
        level: `activation_checkpoint`; of no meaning in predictions.
        autocast: The dtype of automatic mixed precision.
        accumulate: Gradients of several batches are added up.
    """

    training: bool
    level: str
    autocast: torch.dtype | None = None
    accumulate: bool = False


@dataclass(frozen=True)
class UseEstimate:
    """Memory of one use.

    Attributes:
        use: Which.
        batch_size: Structures of a batch, as the config says.
        held: What lives all the time.
        peak: Bytes with a batch of mean structures.
        worst: Bytes with a batch of the dataset's largest structures.
        fixed: Bytes of the peak that grow with nothing, without what is held.
        per_atom: Bytes of the peak per atom.
        per_edge: Bytes of the peak per edge.
        largest_batch: Mean structures that fit into the memory.
        most_atoms: Atoms that fit, with the mean number of edges.
    """

    use: Use
    batch_size: int
    held: HeldMemory
    peak: int
    worst: int
    fixed: int
    per_atom: int
    per_edge: int
    largest_batch: int
    most_atoms: int


def estimate(
    config: Mapping[str, Any], sizes: StructureSizes, device_type: str, memory: int, uses: tuple[bool, ...]
) -> list[UseEstimate]:
    """Estimate every level of `activation_checkpoint` in training, and predictions.

    Args:
        config: The run's config, as `build_run_config` returns it.
        sizes: Of its structures.
        device_type: `cpu` or `cuda`.
        memory: Of the device, in bytes.
        uses: Which of training (True) and predictions (False) are asked for.

    Raises:
        ImportError: If a class that the config names cannot be imported.
        ValueError: If a key is unknown or a setting is wrong.
    """
    problems = key_problems(config)
    if problems:
        raise ValueError(f"nothing reads {'; '.join(map(str, problems))}")
    configured_level(config)
    with only_needed_imports(config):
        return [
            _estimate_use(config, use, sizes, device_type, memory)
            for training in uses
            for use in _uses(config, training)
        ]


def _uses(config: Mapping[str, Any], training: bool) -> Iterator[Use]:
    optim = config.get("optim") or {}
    precision = optim.get("precision") or ("fp16" if config.get("amp") else "fp32")
    if precision not in PRECISIONS:
        raise ValueError(f"optim.precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if not training:
        yield Use(False, configured_level(config), PRECISIONS[precision])
        return
    accumulate = planned_batches(config).accumulation > 1
    yield from (Use(True, level, PRECISIONS[precision], accumulate) for level in LEVELS)


def configured_level(config: Mapping[str, Any]) -> str:
    """The level of `activation_checkpoint` that the config sets."""
    level = _network_settings(config["model"]).get("activation_checkpoint", "none")
    level = {True: "block", False: "none"}.get(level, level)
    if level not in LEVELS:
        raise ValueError(f"activation_checkpoint must be one of {list(LEVELS)}, got {level!r}")
    return str(level)


def _estimate_use(
    config: Mapping[str, Any], use: Use, sizes: StructureSizes, device_type: str, memory: int
) -> UseEstimate:
    optim = config.get("optim") or {}
    batch_size = optim.get("batch_size", 1)
    if not use.training:
        batch_size = optim.get("eval_batch_size", batch_size)
    follow = Tracer(config, use, device_type)
    atoms, edges = sizes.mean_batch(batch_size)
    profile = follow.profile(atoms, edges)
    fixed, per_atom, per_edge = profile.at_peak(atoms, edges)
    largest = follow.largest_multiple(memory, *sizes.mean_batch(1), start=batch_size)
    full = follow.profile(*sizes.mean_batch(max(largest, 1)))
    return UseEstimate(
        use=use,
        batch_size=batch_size,
        held=follow.held,
        peak=profile.peak(atoms, edges),
        worst=profile.peak(*sizes.largest_batch(batch_size)),
        fixed=round(fixed) - follow.held.total,
        per_atom=round(per_atom),
        per_edge=round(per_edge),
        largest_batch=largest,
        most_atoms=full.largest_multiple(memory, 1, sizes.edges_per_atom),
    )


class Tracer:
    """Memory profiles of a model that a config describes.

    Args:
        config: The run's config.
        use: What for.
        device_type: `cpu` or `cuda`.
        alone: The model stands alone, without the host's wrapper for several processes.
    """

    def __init__(self, config: Mapping[str, Any], use: Use, device_type: str, *, alone: bool = False) -> None:
        self._use, self._device_type = use, device_type
        self._settings = copy.deepcopy(dict(config["model"]))
        network = _network_settings(self._settings)
        network["activation_checkpoint"] = use.level
        for key in _NOT_FOLLOWED:
            network.pop(key, None)
        self._profiles: dict[tuple[int, int], MemoryProfile] = {}
        with without_data(device_type):
            model = _build(self._settings)
        self.held = held_memory(model, config, use.training, device_type, alone=alone)

    def profile(self, atoms: int | float, edges: int | float) -> MemoryProfile:
        """Profile that holds near so many atoms and edges."""
        most_atoms, most_edges = MOST_TRACED[self._device_type]
        key = min(math.ceil(atoms), most_atoms), min(math.ceil(edges), most_edges)
        if key not in self._profiles:
            self._profiles[key] = self._trace(*key).plus(self.held.total, self.held.at_step)
        return self._profiles[key]

    def largest_multiple(self, memory: int, atoms: int | float, edges: int | float, start: int = 1) -> int:
        """How many times so many atoms and edges fit; the search starts from a number that is known to be usual."""
        found = start
        for _ in range(_RETRACED):
            tried, found = found, self.profile(atoms * found, edges * found).largest_multiple(memory, atoms, edges)
            if found == 0 or tried / _CLOSE <= found <= tried * _CLOSE:
                break
        return found

    def _trace(self, atoms: int, edges: int) -> MemoryProfile:
        with without_data(self._device_type):
            model = _build(self._settings)
            atoms = unit_at_least(max(atoms, 100), model)
            edges = unit_at_least(max(edges, 100), model, atoms)
            predict = _predictions(model, self._use.autocast)
            arguments = model, predict, lambda: empty_batch(atoms, edges), (atoms, edges)
            if self._use.training:
                return trace_training(*arguments, accumulate=self._use.accumulate)
            return trace_inference(*arguments)


def _network_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the model section that describes the network."""
    network: dict[str, Any] = model.get("backbone", model)
    return network


def _build(settings: Mapping[str, Any]) -> nn.Module:
    given = copy.deepcopy(dict(settings))
    name = given.pop("name")
    network = given.get("backbone", {}).get("model", name)
    if not issubclass(registry.get_model_class(network), HostModel):
        raise ValueError(f"the model is {network}: only models of ev2_plugin can be estimated")
    return registry.get_model_class(name)(**given)


def _predictions(model: Any, autocast: torch.dtype | None) -> Callable[[AtomBatch], Iterator[Tensor]]:
    """All predictions of a flat or a hydra model, which is given structures instead of the host's batches."""
    network = getattr(model, "backbone", model)

    def predict(atoms: AtomBatch) -> Iterator[Tensor]:
        gauge = None if network.gauge_generator is None else torch.empty_like(atoms.graph.distances)
        network.read = lambda _: (atoms, gauge)
        network.run.guard.largest = math.inf  # nothing is computed, whatever its size
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            out = network(None)
            if network is model:
                yield from out.values()
                return
            for head in model.output_heads.values():
                with torch.autocast("cpu", enabled=head.use_amp):
                    yield from head(None, out).values()

    return predict
