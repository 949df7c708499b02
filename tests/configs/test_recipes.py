"""The numbers of every run against the paper's tables, transcribed here a second time."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from torch_geometric.datasets.qm9 import atomrefs

from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS, RUN_FILES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A column of one of the paper's tables of hyper-parameters."""

    lr: float
    epochs: int
    warmup_epochs: float
    batch: int
    weight_decay: float
    dropout: float
    drop_path: float
    cutoff: float
    neighbors: int
    coefficients: tuple[float, ...]
    clip: float | None = 100
    ema: float | None = 0.999
    precision: str = "fp32"
    blocks: int | None = None
    degree: int | None = None
    resolution: int = 18
    gpus_times_batch: tuple[int, int] | None = None


# Table 7, in its order of columns
BASE = Recipe(
    lr=2e-4, epochs=12, warmup_epochs=0.1, batch=64, weight_decay=1e-3, dropout=0.1, drop_path=0.05, cutoff=12,
    neighbors=20, coefficients=(2, 100), precision="fp16", blocks=12, degree=6, gpus_times_batch=(16, 4),
)  # fmt: skip
SMALL = replace(
    BASE, lr=4e-4, epochs=3, warmup_epochs=0.01, batch=512, drop_path=0.1, coefficients=(4, 100), blocks=8, degree=4,
    gpus_times_batch=(64, 8),
)  # fmt: skip
LARGE = replace(SMALL, epochs=1, blocks=20, degree=6, gpus_times_batch=(128, 4))
LONG = replace(BASE, lr=4e-4, epochs=30)
# Table 9
DIRECT = Recipe(
    lr=4e-4, epochs=20, warmup_epochs=2, batch=32, weight_decay=1e-3, dropout=0.2, drop_path=0.05, cutoff=5,
    neighbors=50, coefficients=(1,), blocks=6, degree=6, gpus_times_batch=(16, 2),
)  # fmt: skip
AUXILIARY = replace(
    DIRECT, lr=5e-4, epochs=40, batch=64, drop_path=0.1, coefficients=(1, 15, 1), blocks=15, gpus_times_batch=(32, 2)
)
# Table 11
OXIDES = Recipe(
    lr=2e-4, epochs=6, warmup_epochs=0.1, batch=128, weight_decay=1e-3, dropout=0.1, drop_path=0.1, cutoff=12,
    neighbors=20, coefficients=(4, 100), clip=50, blocks=18, degree=6, gpus_times_batch=(32, 4),
)  # fmt: skip
# Table 13 and section F.2
ELECTRONIC = Recipe(
    lr=5e-4, epochs=300, warmup_epochs=5, batch=64, weight_decay=5e-3, dropout=0.2, drop_path=0, cutoff=5,
    neighbors=500, coefficients=(1,), clip=None, ema=None, precision="fp16", blocks=6, degree=4,
    gpus_times_batch=(1, 64),
)  # fmt: skip
EXTENT = replace(
    ELECTRONIC, lr=1.5e-4, batch=48, dropout=0.1, precision="fp32", blocks=5, gpus_times_batch=(1, 48)
)  # R^2
ZERO_POINT = replace(EXTENT, dropout=0.2)
ENERGY = replace(EXTENT, weight_decay=0, dropout=0)
NOISY = {"coefficients": (1, 0.1)}

ABLATIONS = {
    "gate_no_renormalisation": BASE,
    "gate": BASE,
    "s2": BASE,
    "layer_norm": BASE,
    "layer_norm_20_epochs": replace(BASE, epochs=20),
    "20_epochs": replace(BASE, epochs=20),
    "degree_2": replace(BASE, degree=2),
    "degree_4": replace(BASE, degree=4),
    "degree_8": replace(BASE, degree=8, resolution=20),
    "degree_8_20_epochs": replace(BASE, degree=8, resolution=20, lr=4e-4, epochs=20),
    "order_3": BASE,
    "order_4": BASE,
    "order_6": BASE,
    "depth_8": replace(BASE, blocks=8),
    "depth_16": replace(BASE, blocks=16),
    "figure_4_degree_4": replace(LONG, degree=4),
    "figure_4_three_quarters": replace(LONG, degree=4),
    "figure_4_half": replace(LONG, degree=4),
}
RECIPES = {
    "oc20/s2ef_2M_83M": BASE,
    "oc20/s2ef_2M_83M_20_epochs": replace(LONG, epochs=20),
    "oc20/s2ef_2M_83M_30_epochs": LONG,
    "oc20/s2ef_all_153M": replace(LARGE, batch=256, coefficients=(2, 100), gpus_times_batch=(64, 4)),
    "oc20/s2ef_all_md_31M_energy_2": replace(SMALL, coefficients=(2, 100)),
    "oc20/s2ef_all_md_153M_energy_2": replace(LARGE, coefficients=(2, 100)),
    **dict.fromkeys(("oc20/s2ef_all_md_153M_energy_4", "oc20/relax_is2re_153M", "oc20/relax_adsorbml_153M"), LARGE),
    **dict.fromkeys(("oc20/s2ef_all_md_31M_energy_4", "oc20/relax_is2re_31M", "oc20/relax_adsorbml_31M"), SMALL),
    "oc20/is2re_36M": DIRECT,
    "oc20/is2re_95M_noisy_nodes": AUXILIARY,
    **{f"oc20/ablations/s2ef_2M_{name}": recipe for name, recipe in ABLATIONS.items()},
    "oc22/s2ef_total_121M_energy_1_force_1": replace(OXIDES, coefficients=(1, 1)),
    "oc22/s2ef_total_121M_energy_4_force_100": OXIDES,
    "oc22/relax_is2re_total_121M": OXIDES,
    **{f"qm9/{target}": ELECTRONIC for target in ("mu", "alpha", "homo", "lumo", "gap", "Cv")},
    "qm9/alpha_noisy_nodes": replace(ELECTRONIC, **NOISY),
    **{
        f"qm9/{target}_noisy_nodes": replace(ELECTRONIC, drop_path=0.05, **NOISY)
        for target in ("mu", "homo", "lumo", "gap", "Cv")
    },
    "qm9/r2": EXTENT,
    "qm9/r2_noisy_nodes": replace(EXTENT, lr=5e-4, blocks=6, **NOISY),
    "qm9/zpve": ZERO_POINT,
    "qm9/zpve_noisy_nodes": replace(ZERO_POINT, **NOISY),
    **{f"qm9/{target}": ENERGY for target in ("U0", "U", "H", "G")},
    **{
        f"qm9/{target}_noisy_nodes": replace(ENERGY, batch=64, blocks=6, gpus_times_batch=(1, 64), **NOISY)
        for target in ("U0", "U", "H", "G")
    },
}


def loaded(name: str) -> dict[str, Any]:
    return load_config(RUN_FILES[name])[0]


def recipe_of(config: dict[str, Any], gpus: int) -> Recipe:
    """Read a run's config as a column of a table."""
    optim, schedule = config["optim"], config["optim"]["scheduler_params"]
    network = config["model"].get("backbone", config["model"])
    terms = [term for loss in config["loss_functions"] for term in loss.values()]
    coefficients = [value for term in terms for key, value in term.items() if key.endswith("coefficient")]
    assert (optim["optimizer"], optim["scheduler"], schedule["lambda_type"]) == ("AdamW", "LambdaLR", "cosine")
    return Recipe(
        lr=optim["lr_initial"],
        epochs=optim["max_epochs"],
        warmup_epochs=schedule["warmup_epochs"],
        batch=optim["global_batch_size"],
        weight_decay=optim["optimizer_params"]["weight_decay"],
        dropout=network["alpha_drop"],
        drop_path=network["drop_path_rate"],
        cutoff=network["max_radius"],
        neighbors=network["max_neighbors"],
        coefficients=tuple(coefficients),
        clip=optim.get("clip_grad_norm"),
        ema=optim.get("ema_decay"),
        precision=optim["precision"],
        blocks=network["num_layers"],
        degree=network["lmax"],
        resolution=network["grid_resolution"],
        gpus_times_batch=(gpus, optim["batch_size"]),
    )


def test_every_run_file_is_compared() -> None:
    assert set(RECIPES) == set(RUN_FILES)


@pytest.mark.parametrize("name", RUN_FILES)
def test_recipe_is_the_papers(name: str) -> None:
    expected = RECIPES[name]
    config = loaded(name)
    assert expected.gpus_times_batch is not None
    gpus, batch = expected.gpus_times_batch
    actual = recipe_of(config, gpus)
    assert {field.name: getattr(actual, field.name) for field in fields(Recipe)} == {
        field.name: getattr(expected, field.name) for field in fields(Recipe)
    }
    assert config["optim"]["global_batch_size"] == gpus * batch  # no accumulation on the paper's machines
    assert config["trainer"] == "ev2_plugin.Trainer"
    assert config["task"]["prediction_dtype"] == "float32"


@pytest.mark.parametrize("name", RUN_FILES)
def test_ends_of_the_schedule(name: str) -> None:
    optim = loaded(name)["optim"]
    ends = [optim["scheduler_params"][key] for key in ("warmup_factor", "lr_min_factor")]
    if name.startswith("qm9"):
        assert np.allclose(np.multiply(ends, optim["lr_initial"]), 1e-6, rtol=1e-12)  # Equiformer v1's practice
    else:
        assert ends == [0.2, 0.01]  # official files


@pytest.mark.parametrize("name", [name for name in RUN_FILES if name.startswith("oc20/relax")])
def test_relaxations_of_oc20(name: str) -> None:
    task = loaded(name)["task"]  # paper, section D.3
    assert task["relaxation_steps"] == (300 if "adsorbml" in name else 200)
    assert task["relaxation_fmax"] == 0.02
    assert task["relax_opt"] == {"maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0}


def test_normalisers() -> None:
    normalizers = {
        name: loaded(name)["dataset"]["train"]["transforms"]["normalizer"]
        for name in ("oc20/s2ef_2M_83M", "oc20/is2re_95M_noisy_nodes", "oc22/s2ef_total_121M_energy_4_force_100")
    }
    assert [[*one.values()] for one in normalizers["oc20/s2ef_2M_83M"].values()] == [
        [-0.7554450631141663, 2.887317180633545],
        [0.0, 2.887317180633545],
    ]
    assert [[*one.values()] for one in normalizers["oc20/is2re_95M_noisy_nodes"].values()] == [
        [-1.525913953781128, 2.279365062713623],
        [0.0, 0.8771552443504333],
    ]
    assert [[*one.values()] for one in normalizers["oc22/s2ef_total_121M_energy_4_force_100"].values()] == [
        [0.0, 25.119809935106424],
        [0.0, 0.14759646356105804],
    ]


@pytest.mark.parametrize("name", [name for name in RUN_FILES if name.startswith("qm9")])
def test_labels_and_noise_of_qm9(name: str) -> None:
    config, target = loaded(name), name.removeprefix("qm9/").removesuffix("_noisy_nodes")
    transforms = config["dataset"]["train"]["transforms"]
    assert config["dataset"]["train"]["key_mapping"] == {target: "property"}
    assert ("fit" in transforms.get("normalizer", {})) == (target not in ("U0", "U", "H", "G"))
    assert ("element_references" in transforms) == (target in ("U0", "U", "H", "G"))
    noise = config["task"].get("noisy_nodes")
    if name.endswith("noisy_nodes"):
        ratio = 0.125 if target == "r2" else 0.25
        assert noise == {"std": 0.02, "probability": 0.5, "corrupt_ratio": ratio}
        assert transforms["normalizer"]["noise"] == {"mean": 0.0, "rmsd": noise["std"]}
    else:
        assert noise is None


@pytest.mark.parametrize(("target", "index"), [("U0", 7), ("U", 8), ("H", 9), ("G", 10)])
def test_atomic_energies_of_qm9(target: str, index: int) -> None:
    transforms = loaded(f"qm9/{target}")["dataset"]["train"]["transforms"]
    elements = transforms["element_references"]["property"]["elements"]
    assert elements == dict(zip(("H", "C", "N", "O", "F"), atomrefs[index], strict=True))


def test_no_name_is_a_string_of_hyper_parameters() -> None:
    for path in CONFIGS.rglob("*.yml"):
        assert not any(character in path.name for character in "@=,"), path
