"""The run file beside a dataset: a packaged recipe, and what the data add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

from ev2_plugin.data.dataset_report import Expectation
from ev2_plugin.data.references import ElementReferences, EnergySpread
from ev2_plugin.data.shards import LabelSums
from ev2_plugin.storage.atomic import written_atomically

FILE_NAME = "run.yml"
FORMATS = {"oc20": "lmdb", "oc22": "oc22_lmdb", "aselmdb": "ase_db"}
KEY_MAPPINGS = {"s2ef": {"y": "energy", "force": "forces"}, "is2re": {"y_relaxed": "energy"}}
DEFAULTS = {
    ("s2ef", "oc20"): "oc20/s2ef_2M_83M.yml",
    ("s2ef", "aselmdb"): "oc20/s2ef_2M_83M.yml",
    ("s2ef", "oc22"): "oc22/s2ef_total_121M_energy_4_force_100.yml",
    ("is2re", "oc20"): "oc20/is2re_36M.yml",
    ("is2re", "oc22"): "oc20/is2re_36M.yml",
    ("qm9", "oc20"): "qm9/U0.yml",
}
"""Recipe by task and layout; the pairs that are not here cannot be prepared."""

OUR_TRAINER = "ev2_plugin.Trainer"


@dataclass(frozen=True)
class Recipe:
    """A packaged run file.

    Attributes:
        name: As `includes` has it, like `oc20/s2ef_2M_83M.yml`.
        config: Its content, includes merged.
    """

    name: str
    config: Mapping[str, Any]

    @property
    def backbone(self) -> Mapping[str, Any]:
        """The settings of the model or, in a hydra model, of its backbone."""
        model = self.config.get("model", {})
        return model.get("backbone", model)

    @property
    def cutoff(self) -> float:
        """Largest length of an edge [Å]."""
        return float(self._model_setting("max_radius"))

    @property
    def max_neighbors(self) -> int:
        """Most edges that one atom receives."""
        return int(self._model_setting("max_neighbors"))

    @property
    def references(self) -> dict[str, float] | None:
        """Element references [eV per atom] of the energy by symbol, if the recipe brings them."""
        return self._transforms().get("element_references", {}).get("energy", {}).get("elements")

    @property
    def normalizer(self) -> dict[str, dict[str, float]]:
        """The recipe's own normalisers by target."""
        return self._transforms().get("normalizer", {})

    def check_elements(self, elements: list[int]) -> None:
        """Compare the elements of a dataset with the model's table and the recipe's references.

        Raises:
            ValueError: Naming elements that one of them lacks.
        """
        table = self.backbone.get("max_num_elements", 90)
        beyond = [chemical_symbols[number] for number in elements if number >= table]
        if beyond:
            raise ValueError(
                f"{self.name} is for atomic numbers below {table} (max_num_elements), and the data have "
                f"{', '.join(beyond)}"
            )
        names = {chemical_symbols[number] for number in elements}
        missing = [] if self.references is None else sorted(names - set(self.references))
        if missing:
            raise ValueError(f"{self.name} has no element reference for {', '.join(missing)}: choose another --recipe")

    def check_takes_references(self) -> None:
        """Make sure that element references by symbol can be given to this run.

        Raises:
            ValueError: If its trainer does not know them.
        """
        trainer = self.config.get("trainer")
        if self.references is None and trainer != OUR_TRAINER:
            raise ValueError(
                f"element references need trainer {OUR_TRAINER}, and {self.name} has {trainer}: choose another "
                "--recipe or pass --references none"
            )

    def expectation(self) -> Expectation:
        """What an inspection is to compare a dataset with."""
        energy = self.normalizer.get("energy", {})
        std = energy.get("rmsd", energy.get("stdev"))
        references = self.references
        return Expectation(
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
            normalizer=None if std is None else (float(energy["mean"]), float(std)),
            references=None if references is None else by_number(references),
            max_num_elements=int(self.backbone.get("max_num_elements", 90)),
        )

    def _model_setting(self, key: str) -> Any:
        if key not in self.backbone:
            raise ValueError(
                f"{self.name} does not say {key}, which the counts of edges need: choose a recipe with a model"
            )
        return self.backbone[key]

    def _transforms(self) -> Mapping[str, Any]:
        return self.config.get("dataset", {}).get("train", {}).get("transforms", {})


@dataclass(frozen=True)
class TargetScale:
    """How the trainer is to shift and scale the targets.

    Attributes:
        energy: What is left of the energies when the references are subtracted.
        references: References fitted to the labels; None if there are none or the recipe brings them.
        vector_rms: Root mean square of force [eV/Å] or displacement [Å] components; None if there are none.
    """

    energy: EnergySpread
    references: ElementReferences | None
    vector_rms: float | None


def fit_scale(sums: LabelSums, label: str, recipe: Recipe, fit_references: bool) -> TargetScale:
    """Fit normalisers and, if asked for, element references to training labels.

    Args:
        sums: Of the training samples.
        label: The energy among their labels.
        recipe: Its own references come first.
        fit_references: Whether to fit references where the recipe has none.

    Raises:
        ValueError: If the labels do not vary, or the recipe's references lack an element.
    """
    fit = sums.fits[label]
    if fit.num_structures < 2:
        raise ValueError(f"the training split has {fit.num_structures} structures, and a normaliser needs two at least")
    if recipe.references is not None:
        scale = TargetScale(fit.subtract(by_number(recipe.references)), None, sums.vector_rms)
    elif fit_references:
        references = fit.solve()
        scale = TargetScale(references.residual, references, sums.vector_rms)
    else:
        scale = TargetScale(fit.spread(), None, sums.vector_rms)
    if scale.energy.std < 1e-6:
        beyond = "" if scale.references is None else " beyond their element references"
        raise ValueError(
            f"the training energies do not vary{beyond} (standard deviation {scale.energy.std:.1e} eV): "
            "nothing can be learnt"
        )
    return scale


def check_covered(references: ElementReferences, elements: list[int], split: str) -> None:
    """Make sure that fitted references serve another split: the trainer refuses elements without one.

    Raises:
        ValueError: Naming the elements that no training structure has.
    """
    unseen = [chemical_symbols[number] for number in elements if number not in references.by_number]
    if unseen:
        raise ValueError(
            f"{', '.join(unseen)} of the {split} split is in no training structure, so that no element reference can "
            "be fitted: divide otherwise (--seed, --split, --val) or pass --references none"
        )


def by_number(references: Mapping[str, float]) -> dict[int, float]:
    """Key element references by atomic number.

    Raises:
        ValueError: If a symbol is no element's.
    """
    wrong = set(references) - set(chemical_symbols[1:])
    if wrong:
        raise ValueError(f"element references of {', '.join(sorted(map(str, wrong)))}: no such elements")
    return {chemical_symbols.index(symbol): float(energy) for symbol, energy in references.items()}


def run_config(
    folder: Path, splits: list[str], task: str, layout: str, recipe: Recipe, scale: TargetScale | None
) -> dict[str, Any]:
    """Say what the data add to a recipe.

    Args:
        folder: Where the dataset will lie.
        splits: The splits it has.
        task: `s2ef`, `is2re` or `qm9`.
        layout: One of `FORMATS`.
        recipe: What is included.
        scale: Of the training labels; None leaves the recipe's.

    Returns:
        The content of `run.yml`. A split that the data lack is switched off. The test split is not part of it: the
        host would predict it after every validation that is the best so far.
    """
    train: dict[str, Any] = {"format": FORMATS[layout], "src": str(folder / "train")}
    if layout == "aselmdb":
        train["a2g_args"] = {"r_energy": True, "r_forces": True}
    if "key_mapping" not in recipe.config.get("dataset", {}).get("train", {}) and task in KEY_MAPPINGS:
        train["key_mapping"] = KEY_MAPPINGS[task]
    if scale is not None:
        vector = "forces" if task == "s2ef" else "displacement"
        normalizer = {"energy": {"mean": scale.energy.mean, "rmsd": scale.energy.std}}
        if vector in recipe.config.get("outputs", {}) and scale.vector_rms is not None:
            normalizer[vector] = {"mean": 0.0, "rmsd": scale.vector_rms}
        train["transforms"] = {"normalizer": normalizer}
        if scale.references is not None:
            train["transforms"]["element_references"] = {"energy": {"elements": scale.references.by_symbol}}
    val = {"format": FORMATS[layout], "src": str(folder / "val")} if "val" in splits else None
    return {"includes": [recipe.name], "dataset": {"train": train, "val": val}}


def write_run_file(path: Path, config: Mapping[str, Any], comment: str) -> None:
    """Write `run.yml`; it appears when it is complete."""
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    with written_atomically(path) as file:
        file.write((lines + yaml.safe_dump(dict(config), sort_keys=False)).encode())
