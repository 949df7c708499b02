import pytest
import torch

from ev2_plugin.integration.layouts import in_layout

BACKBONE = {"model": "ev2_backbone", "lmax": 2}
ENERGY, FORCES = {"module": "ev2_energy_head"}, {"module": "ev2_plugin.ForceHead"}


def test_heads_of_any_name_become_flat() -> None:
    settings = {"name": "hydra", "backbone": BACKBONE, "heads": {"e": ENERGY, "f": FORCES}}
    weights = {"backbone.norm.x": torch.ones(1), "output_heads.e.energy_block.x": torch.zeros(1)}
    flat, renamed = in_layout(settings, weights, "flat")
    assert flat == {"name": "ev2_plugin.EquiformerV2", "lmax": 2, "regress_forces": True}
    assert list(renamed) == ["norm.x", "energy_block.x"]


@pytest.mark.parametrize(
    "heads",
    [
        {"energy": {**ENERGY, "reduce": "mean"}},
        {"energy": {**ENERGY, "output_name": "gap"}},
        {"energy": ENERGY, "other": ENERGY},
        {"forces": FORCES},
        {"energy": ENERGY, "stress": {"module": "ev2_stress_head"}},
    ],
)
def test_heads_that_a_flat_model_has_not(heads: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="only hydra takes it"):
        in_layout({"name": "hydra", "backbone": BACKBONE, "heads": heads}, {}, "flat")
