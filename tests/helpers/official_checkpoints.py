"""Checkpoints in every published layout, of the host's own classes: small ones with values, large ones without."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partialmethod
from typing import Any
from unittest import mock

import torch
from e3nn.o3 import _s2grid
from fairchem.core.models.base import HydraModel
from fairchem.core.models.equiformer_v2 import equiformer_v2_dens  # noqa: F401  registers itself
from fairchem.core.models.equiformer_v2.equiformer_v2_deprecated import EquiformerV2
from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage
from torch import Tensor, nn

from ev2_plugin.integration.fidelity import pinned_frames
from ev2_plugin.integration.potential import host_batch
from ev2_plugin.potential.structures import Structures, from_atoms
from helpers.models import fill_by_name
from helpers.structures import crystal, slab

NETWORK: Mapping[str, Any] = {
    "use_pbc": True, "otf_graph": True, "max_neighbors": 60, "max_radius": 4.0, "max_num_elements": 90,
    "num_layers": 2, "sphere_channels": 8, "attn_hidden_channels": 6, "num_heads": 2, "attn_alpha_channels": 5,
    "attn_value_channels": 4, "ffn_hidden_channels": 7, "edge_channels": 9, "norm_type": "layer_norm_sh",
    "lmax_list": [3], "mmax_list": [2], "grid_resolution": 12, "use_grid_mlp": True,
    "num_sphere_samples": 128, "distance_function": "gaussian", "num_distance_basis": 512,
    "attn_activation": "silu", "ffn_activation": "silu", "use_s2_act_attn": False, "use_gate_act": False,
    "use_atom_edge_embedding": True, "alpha_drop": 0.1, "drop_path_rate": 0.1, "proj_drop": 0.0,
    "weight_init": "uniform",
}  # fmt: skip
"""Keys of the official files, narrow, every width another."""

PAPER: Mapping[str, Any] = {
    **NETWORK, "max_radius": 12.0, "max_neighbors": 20, "sphere_channels": 128, "attn_hidden_channels": 64,
    "num_heads": 8, "attn_alpha_channels": 64, "attn_value_channels": 16, "ffn_hidden_channels": 128,
    "edge_channels": 128, "grid_resolution": 18,
}  # fmt: skip
"""Widths of the published models."""

ENERGY, FORCES = {"mean": -0.75, "rmsd": 2.9}, {"mean": 0.0, "rmsd": 1.7}
STRESS_HEAD = {"output_name": "stress", "decompose": True, "use_source_target_embedding": True}
_DENS = "fairchem.core.models.equiformer_v2.equiformer_v2_dens."
OLDER_HEADS = {
    "energy": {"module": "equiformer_v2_energy_head"},
    "forces": {"module": "equiformer_v2_force_head"},
    "stress": {"module": "rank2_symmetric_head", **STRESS_HEAD},
}
HEADS = {"energy": {"module": "equiformerV2_scalar_head"}, "forces": {"module": "equiformerV2_vector_head"}}
DENS_HEADS = {
    "energy": {"module": f"{_DENS}DeNSScalarHead", "use_denoising": True},
    "forces": {"module": f"{_DENS}DeNSVectorHead"},
    "stress": {"module": f"{_DENS}DeNSRank2Head", **STRESS_HEAD, "use_denoising": False},
}
OMAT = {"max_num_elements": 96, "enforce_max_neighbors_strictly": False, "avg_num_nodes": 31.17, "avg_degree": 61.95}
OUTPUTS: Mapping[str, Any] = {
    "energy": {"level": "system"},
    "forces": {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True},
}
STRESS: Mapping[str, Any] = {
    "stress": {
        "level": "system",
        "property": "stress",
        "decomposition": {"stress_isotropic": {"irrep_dim": 0}, "stress_anisotropic": {"irrep_dim": 2}},
    }
}


@dataclass(frozen=True)
class Published:
    """A checkpoint of the host's, and the model that it was made of.

    Attributes:
        content: What the file holds.
        model: The host's, with the averaged weights.
        references: eV per atom by atomic number, added to energies; None for none.
    """

    content: dict[str, Any]
    model: nn.Module
    references: Tensor | None = None

    def predict(self, structures: Structures) -> dict[str, Tensor]:
        """Energies, forces and parts of the stress in eV and Å, the host's edge frames pinned to ours."""
        batch = host_batch(structures)
        with pinned_frames(wigner=True), torch.no_grad():
            said = dict(self.model.eval()(batch))
        if "energy" not in said or isinstance(said["energy"], Mapping):
            said = {name: value for head in said.values() for name, value in head.items()}
        energy = said["energy"].double().flatten() * ENERGY["rmsd"] + ENERGY["mean"]
        if self.references is not None:
            energy = energy.index_add(0, batch.batch, self.references.double()[batch.atomic_numbers])
        found = {"energy": energy}
        if "forces" in said:
            found["forces"] = said["forces"].double() * FORCES["rmsd"] + FORCES["mean"]
        return {**found, **{name: value for name, value in said.items() if name.startswith("stress")}}


def structures() -> Structures:
    """Two periodic structures; the host takes those of one periodicity only."""
    periodic = slab()
    periodic.pbc = True
    return from_atoms([periodic, crystal()], ["slab", "crystal"])


_grid = cache(_s2grid.spherical_harmonics_s2_grid)  # the host derives each grid of a model anew, 49 for lmax 6


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    with mock.patch.object(_s2grid, "spherical_harmonics_s2_grid", _grid), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def flat_model(**changes: Any) -> nn.Module:
    """The host's flat model."""
    with _quick_and_quiet():
        return EquiformerV2(**{**NETWORK, **changes})


def hydra_settings(
    heads: Mapping[str, Any], backbone: str = "equiformer_v2_backbone", **changes: Any
) -> dict[str, Any]:
    """A hydra section of the host's."""
    return {
        "name": "hydra",
        "pass_through_head_outputs": True,
        "otf_graph": True,
        "backbone": {"model": backbone, **NETWORK, **changes},
        "heads": {name: dict(head) for name, head in heads.items()},
    }


def hydra_model(settings: Mapping[str, Any]) -> nn.Module:
    """The host's hydra model."""
    with _quick_and_quiet():
        return HydraModel(**{key: value for key, value in settings.items() if key != "name"})


def saved_state(model: nn.Module, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raw weights under a wrapper's names, and averages that differ from them; the model gets the averages."""
    fill_by_name(model)
    ema = ExponentialMovingAverage(model.parameters(), 0.999)
    for shadow in ema.shadow_params:
        shadow.mul_(1.01).add_(0.003)
    state = {prefix + name: value.clone() for name, value in model.state_dict().items()}
    ema.copy_to()
    return state, ema.state_dict()


def old_config(
    settings: Mapping[str, Any], task: str = "trajectory_lmdb_v2", name: str = "equiformer_v2"
) -> dict[str, Any]:
    """A config as OCP 0.x wrote it."""
    labels = {
        "normalize_labels": True,
        "target_mean": ENERGY["mean"],
        "target_std": ENERGY["rmsd"],
        "grad_target_mean": FORCES["mean"],
        "grad_target_std": FORCES["rmsd"],
    }
    return {
        "task": {"dataset": task, "description": "Regressing", "type": "regression", "metric": "mae"},
        "model": name,
        "model_attributes": dict(settings),
        "dataset": [{"src": "/gone/train", **labels}, {"src": "/gone/val"}],
        "optim": {"batch_size": 4, "energy_coefficient": 4, "force_coefficient": 100, "ema_decay": 0.999},
        "logger": "wandb",
        "amp": True,
        "gpus": 1,
        "trainer": "forces_v2",
        "commit": "abc1234",
        "cmd": {"identifier": "x", "seed": 0, "checkpoint_dir": "/gone"},
    }


def new_config(model: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """A config as fairchem 1.x writes it."""
    return {
        "task": {},
        "trainer": "ocp",
        "model": dict(model),
        "dataset": {"format": "ase_db", "src": "/gone", "transforms": {}},
        "outputs": {name: dict(value) for name, value in outputs.items()},
        "loss_functions": [{name: {"fn": "mae", "coefficient": 1}} for name in outputs],
        "evaluation_metrics": {"primary_metric": "energy_mae"},
        "optim": {"batch_size": 4},
        "commit": "core:abc1234,experimental:NA",
    }


def _content(
    state: dict[str, Tensor], ema: dict[str, Any] | None, config: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {
        "epoch": 1.5, "step": 4000, "state_dict": state, "optimizer": {"state": {}, "param_groups": []},
        "scheduler": {}, "config": config, "val_metrics": {"energy_mae": {"metric": 0.25}}, "ema": ema, "amp": None,
        "best_val_metric": 0.25, "primary_metric": "energy_mae", **more,
    }  # fmt: skip


def _old_normalizers() -> dict[str, Any]:
    return {
        "target": {"mean": torch.tensor(ENERGY["mean"]), "std": torch.tensor(ENERGY["rmsd"])},
        "grad_target": {"mean": torch.tensor(FORCES["mean"]), "std": torch.tensor(FORCES["rmsd"])},
    }


def _new_normalizers() -> dict[str, Any]:
    given = {"energy": ENERGY, "forces": FORCES}
    return {name: {key: torch.tensor(value) for key, value in one.items()} for name, one in given.items()}


def oc20(name: str = "equiformer_v2", prefix: str = "module.module.") -> Published:
    """Flat, config and normalisers of OCP 0.x."""
    model = flat_model()
    state, ema = saved_state(model, prefix)
    return Published(_content(state, ema, old_config(NETWORK, name=name), normalizers=_old_normalizers()), model)


def oc22() -> Published:
    """Flat with frozen per-element energies, which averages do not cover."""
    references = {"load_energy_lin_ref": True, "use_energy_lin_ref": False}
    model = flat_model(**references)
    with torch.no_grad():
        state, ema = saved_state(model, "module.module.")
    assert len(ema["shadow_params"]) == len(list(model.parameters())) - 1
    config = old_config({**NETWORK, **references}, task="oc22_lmdb")
    return Published(_content(state, ema, config, normalizers=_old_normalizers()), model)


def odac(direct: bool = False) -> Published:
    """Flat with 100 elements; statistics under names that no released code of the host reads."""
    changes = {"max_num_elements": 100, "max_radius": 5.0, "regress_forces": not direct}
    model = flat_model(**changes, avg_num_nodes=192.561, avg_degree=21.024)
    state, ema = saved_state(model, "module.")
    settings = {**NETWORK, **changes, "norm_scale_nodes": 192.561, "norm_scale_degree": 21.024}
    config = old_config(settings, task="single_point_lmdb" if direct else "trajectory_lmdb_v2")
    return Published(_content(state, ema, config, normalizers=_old_normalizers()), model)


def omat24(
    heads: Mapping[str, Any] = OLDER_HEADS, backbone: str = "equiformer_v2_backbone", **changes: Any
) -> Published:
    """Hydra with a head for stress and fitted element references."""
    settings = hydra_settings(heads, backbone, **{**OMAT, **changes})
    model = hydra_model(settings)
    state, ema = saved_state(model, "module.")
    references = torch.zeros(119)
    references[[6, 8, 11, 17, 29]] = torch.tensor([-9.1, -4.9, -1.3, -1.8, -3.7])
    more = {
        "normalizers": _new_normalizers(),
        "elementrefs": {"energy": {"element_references": references}},
    }
    config = new_config(settings, {**OUTPUTS, **STRESS})
    return Published(_content(state, ema, config, **more), model, references)


def dens(sigma: bool = False) -> Published:
    """A DeNS model of the host's, named by paths as OMat24's files name it."""
    return omat24(DENS_HEADS, f"{_DENS}EqV2DeNSBackbone", use_noise_schedule_sigma_encoding=sigma)


def flat_dens() -> Published:
    """A DeNS model in one module, as the method's authors publish it: the host's hydra weights under flat names."""
    heads = {"energy": DENS_HEADS["energy"], "forces": DENS_HEADS["forces"]}
    settings = hydra_settings(heads, f"{_DENS}EqV2DeNSBackbone")
    model = hydra_model(settings)
    state, ema = saved_state(model, "")

    def flat(name: str) -> str:
        name = name.removeprefix("backbone.").removeprefix("output_heads.energy.").removeprefix("output_heads.forces.")
        return name.replace("scalar_block.", "energy_block.").replace("vector_block.", "force_block.")

    state = {f"module.{flat(name)}": value for name, value in state.items()}
    config = old_config({**NETWORK, "use_force_encoding": True, "use_tp_reparam": False}, name="equiformer_v2_dens")
    return Published(_content(state, ema, config, normalizers=_old_normalizers()), model)


def hydra(pass_through: bool = True) -> Published:
    """Hydra with the heads' names of today."""
    settings = {**hydra_settings(HEADS), "pass_through_head_outputs": pass_through}
    model = hydra_model(settings)
    state, ema = saved_state(model, "")
    outputs = {name: {**value, "property": name} for name, value in OUTPUTS.items()}
    return Published(_content(state, ema, new_config(settings, outputs), normalizers=_new_normalizers()), model)


LAYOUTS: Mapping[str, Callable[[], Published]] = {
    "OC20": oc20,
    "OC20, first release": lambda: oc20("equiformer_v2s", ""),
    "OC22": oc22,
    "ODAC23": odac,
    "OMat24": omat24,
    "hydra": hydra,
    "hydra by head": lambda: hydra(pass_through=False),
    "DeNS": dens,
    "DeNS with noise scales": lambda: dens(sigma=True),
    "DeNS, flat": flat_dens,
}


@contextmanager
def without_numbers() -> Iterator[None]:
    """Layers made meanwhile lie on the meta device: shapes without memory. (The host's tables need numbers.)"""
    with ExitStack() as patches:
        for layer in (nn.Linear, nn.Embedding, nn.LayerNorm):
            patches.enter_context(mock.patch.object(layer, "__init__", partialmethod(layer.__init__, device="meta")))
        yield
