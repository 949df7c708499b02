"""The run files with fewer channels, on four samples each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairchem.core.common.flags import Flags

from ev2_plugin.integration.run_config import build_run_config, load_config
from ev2_plugin.integration.trainer import Trainer
from helpers.run_files import RUN_FILES
from helpers.tiny_sets import write_tiny_sets
from helpers.trainers import make_trainer

BATCH, GLOBAL_BATCH, EPOCHS = 2, 4, 2
SMALL_RUN = {
    "optim.batch_size": BATCH,
    "optim.eval_batch_size": BATCH,
    "optim.global_batch_size": GLOBAL_BATCH,
    "optim.max_epochs": EPOCHS,
    "optim.scheduler_params.warmup_epochs": 1,  # that of QM9, 5, would be longer than the training
    "optim.num_workers": 0,
}
SMALL_MODEL = {
    "num_layers": 1,
    "sphere_channels": 8,
    "attn_hidden_channels": 8,
    "num_heads": 2,
    "attn_alpha_channels": 4,
    "attn_value_channels": 4,
    "ffn_hidden_channels": 8,
    "edge_channels": 8,
    "num_radial_basis": 8,
}


def small_model(model: dict[str, Any]) -> dict[str, Any]:
    """Overrides that make a run's model small, with half its degree."""
    section = "model.backbone" if "backbone" in model else "model"
    network = model.get("backbone", model)
    lmax = network["lmax"] // 2
    sizes = {**SMALL_MODEL, "lmax": lmax, "mmax": min(network["mmax"], lmax), "grid_resolution": 2 * (lmax + 1)}
    return {f"{section}.{key}": value for key, value in sizes.items()}


def precision(name: str) -> dict[str, str]:
    """Another half precision for OC20 S2EF, whose first two steps in fp16 only find the scale of the gradients."""
    return {"optim.precision": "bf16"} if set_of(name) == "s2ef" else {}


def set_of(name: str) -> str:
    """Which of the small sets a run trains on."""
    if name.startswith("qm9"):
        return "qm9"
    if name.startswith("oc22"):
        return "oc22_s2ef"
    return "is2re" if "/is2re" in name else "s2ef"


def sources(path: Path) -> dict[str, Path]:
    """Overrides to train and validate on one set."""
    return {f"dataset.{split}.src": path for split in ("train", "val")}


def write_sets(folder: Path) -> dict[str, Path]:
    """Write the small data sets; source of each."""
    references = {"oc22": references_of("oc22/s2ef_total_121M_energy_1_force_1", "energy")}
    references |= {target: references_of(f"qm9/{target}", "property") for target in ("U0", "U", "H", "G")}
    return write_tiny_sets(folder, references)


def references_of(name: str, output: str) -> dict[str, float]:
    transforms = load_config(RUN_FILES[name])[0]["dataset"]["train"]["transforms"]
    return transforms["element_references"][output]["elements"]


def overrides_of(name: str, sets: dict[str, Path]) -> dict[str, Any]:
    """What makes a run file small."""
    return (
        SMALL_RUN
        | precision(name)
        | small_model(load_config(RUN_FILES[name])[0]["model"])
        | sources(sets[set_of(name)])
    )


def trainer_of(name: str, sets: dict[str, Path], folder: Path, *, cpu: bool = True, local_rank: int = 0) -> Trainer:
    """The trainer of a small run, in this process."""
    flags = ["--mode", "train", "--config-yml", str(RUN_FILES[name])]
    overrides = [f"--{key}={value}" for key, value in overrides_of(name, sets).items()]
    config = build_run_config(Flags().get_parser().parse_args(flags), overrides)
    return make_trainer(config, folder, cpu=cpu, local_rank=local_rank)
