"""Normalisers and references that cannot be meant."""

import math
from pathlib import Path
from typing import Any

import pytest

from helpers.trainers import config, make_trainer


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ({"normalizer": 2.0}, r"normalizer must map outputs to their mean and rmsd, got 2\.0"),
        ({"normalizer": {"fit": "energy"}}, r"normalizer\.fit must be a mapping, got 'energy'"),
        ({"normalizer": {"fit": {"batch_size": 2}}}, r"normalizer\.fit\.targets must name outputs, got None"),
        (
            {"normalizer": {"energy": {"mean": "1e-1", "rmsd": 1.0}}},
            r"energy\.mean must be a finite number, got '1e-1'",
        ),
        ({"normalizer": {"energy": {"mean": math.nan, "rmsd": 1.0}}}, r"energy\.mean must be a finite number, got nan"),
        ({"normalizer": {"energy": {"mean": 0.0}}}, r"normalizer\.energy has a mean but no rmsd"),
        (
            {"normalizer": {"energy": {"mean": 0.0, "rmsd": 0.0}}},
            r"normalizer\.energy: mean 0\.0, rmsd 0\.0; needed are",
        ),
        ({"normalizer": {"energy": {"mean": 0.0, "rmsd": -2.0}}}, r"normalizer\.energy: mean 0\.0, rmsd -2\.0; needed"),
        ({"normalizer": {"enrgy": {"mean": 0.0, "rmsd": 2.0}}}, r"normalizer\.enrgy: no such output; .*energy, forces"),
        ({"element_references": "energies.npz"}, r"element_references must map outputs .*, got 'energies\.npz'"),
        ({"element_references": {"energy": {"elements": [1]}}}, r"energy\.elements must map symbols to eV, got \[1\]"),
        ({"element_references": {"enrgy": {"elements": {"Cu": 1.0}}}}, r"element_references\.enrgy: no such output"),
        (
            {"element_references": {"forces": {"elements": {"Cu": 1.0}}}},
            r"references\.forces: only outputs of level sys",
        ),
        (
            {
                "element_references": {"energy": {"elements": {"O": 1.0}}},
                "normalizer": {"fit": {"targets": {"energy": {}}, "batch_size": 2}},
            },
            r"normalizer\.energy: mean nan.*an element of its samples has no reference",
        ),
    ],
)
def test_transforms_without_meaning_are_refused(
    transforms: dict[str, Any], message: str, dataset: dict[str, Any], tmp_path: Path
) -> None:
    settings = config(dataset)
    settings["dataset"]["train"]["transforms"] = transforms
    with pytest.raises(ValueError, match=message):
        make_trainer(settings, tmp_path)
