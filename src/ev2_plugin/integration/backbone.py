"""The models under the names and with the calls the host expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.models.base import BackboneInterface
from torch import Tensor

from ev2_plugin.integration.acceleration import FEATURES, Accelerated, embedding, features
from ev2_plugin.integration.config import HostOptions, parse_model_settings
from ev2_plugin.integration.rank_groups import check_options, share_in_group
from ev2_plugin.integration.reading import read_batch
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.equiformer_v2 import EquiformerV2 as FlatModel
from ev2_plugin.model.equiformer_v2 import linear_reference
from ev2_plugin.model.parameter_groups import no_weight_decay
from ev2_plugin.model.replay import Level, Predict


class HostModel(Backbone):
    """What both layouts share: reading the host's batches, the gauge, parameter groups."""

    def _adopt(self, options: HostOptions, predict: Predict, levels: Mapping[str, Level]) -> None:
        check_options(options)
        self.options = options
        self.otf_graph, self.regress_forces = options.otf_graph, options.regress_forces
        self.gauge_generator = None
        if options.gauge_seed is not None:
            self.gauge_generator = torch.Generator().manual_seed(options.gauge_seed)
        self.run = Accelerated(predict, levels, options)

    def read(self, data: Any) -> tuple[AtomBatch, Tensor | None]:
        """A host batch (or a batch that is ready) as the model takes it, and the edge frames' gauge (None for 0).

        Processes that share a batch are all given the whole, and each takes its part of it here.
        """
        dtype = self.sphere_embedding.weight.dtype
        atoms = data if isinstance(data, AtomBatch) else read_batch(data, self.config, self.options, dtype)
        if self.gauge_generator is None:
            return share_in_group(atoms, None)
        turn = torch.rand(len(atoms.graph.senders), generator=self.gauge_generator) * (2 * math.pi)
        return share_in_group(atoms, turn.to(atoms.graph.vectors))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone."""
        return no_weight_decay(self)

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


class EquiformerV2(FlatModel, HostModel):
    """EquiformerV2 with its energy and force heads in one module; takes the keys of the official YAML files.

    Args:
        **settings: The model section of the YAML file: fields of `ModelConfig` and `HostOptions`, and the official
            spellings of them.

    Raises:
        ValueError: If a key is unknown or a value cannot be right.
    """

    def __init__(self, **settings: Any) -> None:
        config, options = parse_model_settings(settings)
        super().__init__(
            config,
            regress_forces=options.regress_forces,
            load_energy_lin_ref=options.load_energy_lin_ref,
            use_energy_lin_ref=options.use_energy_lin_ref,
        )
        self._adopt(options, _predictions, {"energy": "structures", "forces": "atoms"})

    def forward(self, data: Any) -> dict[str, Tensor]:
        """Normalised `energy` [structures] and `forces` [atoms, 3] of a host batch."""
        return self.run(self, *self.read(data))


def _predictions(model: Any, atoms: AtomBatch, gauge: Tensor | None) -> dict[str, Tensor]:
    return model.predict(atoms, gauge)


class EquiformerV2Backbone(HostModel, BackboneInterface):
    """EquiformerV2's backbone for the host's hydra model.

    Args:
        **settings: The `backbone` section of the YAML file, as for `EquiformerV2`.

    Raises:
        ValueError: If a key is unknown or a value cannot be right.
    """

    def __init__(self, **settings: Any) -> None:
        config, options = parse_model_settings(settings)
        super().__init__(config)
        self.energy_lin_ref = linear_reference(
            config.max_num_elements, options.load_energy_lin_ref, options.use_energy_lin_ref
        )
        self._adopt(options, features, FEATURES)

    def forward(self, data: Any) -> dict[str, Any]:
        """What the heads read of a host batch.

        Returns:
            `embedding`: a `NodeEmbedding`; `linear_reference`: per-element energies to add, or None.
        """
        reference = self.energy_lin_ref if self.options.use_energy_lin_ref else None
        atoms, gauge = self.read(data)
        return {"embedding": embedding(self, atoms, self.run(self, atoms, gauge)), "linear_reference": reference}
