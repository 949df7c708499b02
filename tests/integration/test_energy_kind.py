"""What a model's energies are, by the stated rule, and the first statement that applies."""

from pathlib import Path
from typing import Any

import pytest
from fairchem.core.modules.normalization.element_references import LinearReferences
from fairchem.core.modules.normalization.normalizer import Normalizer

from ev2_plugin.integration.energy_kind import energy_kind
from ev2_plugin.integration.run_config import find_config, load_config

S2EF = {"energy": Normalizer(-0.7554450631141663, 2.887317180633545)}
IS2RE = {"energy": Normalizer(-1.525913953781128, 2.279365062713623)}
OTHER = {"energy": Normalizer(-0.7554450631141663, 1.0)}
REFERENCES = {"energy": LinearReferences()}
OC22 = {"format": "oc22_lmdb"}
HELD, ADDED = {"load_energy_lin_ref": True}, {"load_energy_lin_ref": True, "use_energy_lin_ref": True}


@pytest.mark.parametrize(
    ("config", "normalizers", "references", "name"),
    [
        ({}, {}, {}, "unknown"),
        ({}, OTHER, {}, "unknown"),
        ({}, S2EF, {}, "adsorption"),
        ({}, IS2RE, {}, "adsorption"),
        ({}, S2EF, REFERENCES, "total"),
        ({"model": HELD}, S2EF, {}, "referenced"),
        ({"model": ADDED}, S2EF, {}, "total"),
        ({"model": {"backbone": ADDED}}, {}, {}, "total"),
        ({"dataset": OC22}, OTHER, {}, "total"),
        ({"dataset": {**OC22, "lin_ref": "linfit.npz"}}, OTHER, {}, "unknown"),
        ({"task": {"energy": "referenced"}, "model": ADDED}, S2EF, REFERENCES, "referenced"),
        ({"task": {"energy": "adsorption"}}, {}, {}, "adsorption"),
    ],
)
def test_the_rule(config: dict[str, Any], normalizers: Any, references: Any, name: str) -> None:
    kind = energy_kind(config, normalizers, references)
    assert kind.name == name
    assert str(kind).endswith(f"({kind.reason})")


def test_what_is_stated_must_be_a_kind() -> None:
    with pytest.raises(ValueError, match="task.energy must be one of total, referenced, adsorption, got 'free'"):
        energy_kind({"task": {"energy": "free"}}, {}, {})


@pytest.mark.parametrize(
    ("name", "kind"), [("oc20/s2ef_2M_83M.yml", "adsorption"), ("oc20/is2re_36M.yml", "adsorption")]
)
def test_the_configs_of_oc20(name: str, kind: str) -> None:
    train = load_config(find_config(Path(name)))[0]["dataset"]["train"]
    numbers = train["transforms"]["normalizer"]["energy"]
    assert energy_kind({}, {"energy": Normalizer(numbers["mean"], numbers["rmsd"])}, {}).name == kind
