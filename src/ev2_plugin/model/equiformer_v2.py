"""Backbone, energy head and force head in one module: the layout of the OC20 and OC22 checkpoints."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.batch import AtomBatch
from ev2_plugin.model.config import ModelConfig
from ev2_plugin.model.heads import (
    energy_block,
    force_block,
    predict_energy,
    predict_forces,
    sum_over_structures,
)
from ev2_plugin.model.state_dict import accept_official_keys
from ev2_plugin.nn.initialization import initialize


class EquiformerV2(Backbone):
    """Energy and, if wanted, forces of a batch of structures, both normalised by the training targets' statistics.

    Args:
        config: Hyper-parameters.
        regress_forces: Predict forces.
        load_energy_lin_ref: Hold per-element reference energies, divided by the energy's standard deviation, as
            parameters that are not trained (OC22 checkpoints have them).
        use_energy_lin_ref: Add them to the energy: for prediction with a model trained on referenced energies.

    Raises:
        ValueError: If references are to be added but not held.

    Source: paper, figure 1; official code (equiformer_v2_oc20.py).
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        regress_forces: bool = True,
        load_energy_lin_ref: bool = False,
        use_energy_lin_ref: bool = False,
    ) -> None:
        super().__init__(config)
        self.regress_forces = regress_forces
        self.use_energy_lin_ref = use_energy_lin_ref
        self.energy_block = energy_block(config)
        if regress_forces:
            self.force_block = force_block(config)
        self.energy_lin_ref = linear_reference(config.max_num_elements, load_energy_lin_ref, use_energy_lin_ref)
        initialize(self, config.weight_init)
        accept_official_keys(self, flat=True)

    def predict(self, atoms: AtomBatch, gauge: Float[Tensor, " edges"] | None = None) -> dict[str, Tensor]:
        """Normalised predictions.

        Args:
            atoms: Structures with their edges.
            gauge: Turn of each edge frame about its edge in radians; 0 if None.

        Returns:
            `energy` [structures] and, with `regress_forces`, `forces` [atoms, 3].
        """
        embedding = self.embed(atoms, gauge)
        energy = predict_energy(self.energy_block, embedding, "sum", self.config)
        if self.use_energy_lin_ref and self.energy_lin_ref is not None:
            energy = add_linear_reference(energy, self.energy_lin_ref, atoms)
        outputs = {"energy": energy}
        if self.regress_forces:
            outputs["forces"] = predict_forces(self.force_block, embedding, self.config)
        return outputs


def linear_reference(max_num_elements: int, load: bool, use: bool) -> nn.Parameter | None:
    """Per-element reference energies that are not trained, or None.

    Raises:
        ValueError: If they are to be used but not held.
    """
    if use and not load:
        raise ValueError("use_energy_lin_ref: true needs load_energy_lin_ref: true, which holds the references")
    return nn.Parameter(torch.zeros(max_num_elements), requires_grad=False) if load else None


def add_linear_reference(energy: Tensor, reference: Tensor, atoms: AtomBatch) -> Tensor:
    """Energies plus the sum of their atoms' references."""
    return energy.to(reference.dtype) + sum_over_structures(reference[atoms.atomic_numbers], atoms.natoms)
