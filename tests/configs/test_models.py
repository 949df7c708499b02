"""The model of every run file: its exact number of parameters, and the settings of the presets."""

from typing import Any

import pytest
import torch
from fairchem.core.common.registry import registry

from ev2_plugin.integration.config import parse_model_settings
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.run_config import load_config
from ev2_plugin.model import presets
from helpers.run_files import CONFIGS, RUN_FILES
from helpers.run_parameters import PARAMETERS, QM9_9M, QM9_11M

PRESETS = {
    "oc20/model/83M": presets.OC20_83M,
    "oc20/model/31M": presets.OC20_31M,
    "oc20/model/153M": presets.OC20_153M,
    "oc20/model/is2re_36M": presets.IS2RE_36M,
    "oc20/model/is2re_95M": presets.IS2RE_95M,
    "oc22/model/121M": presets.OC22_121M,
    "qm9/model/11M": presets.QM9_11M,
    "qm9/model/9M": presets.QM9_9M,
}


def settings_of_network(model: dict[str, Any]) -> dict[str, Any]:
    """The section that says what the network is, without the name of its class."""
    section = model.get("backbone", model)
    return {key: value for key, value in section.items() if key not in ("name", "model")}


def count_parameters(config: dict[str, Any]) -> int:
    settings = dict(config["model"])
    with only_needed_imports(config), torch.device("meta"):
        model = registry.get_model_class(settings.pop("name"))(**settings)
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_run_file_has_its_number_of_parameters_here() -> None:
    assert set(PARAMETERS) == set(RUN_FILES)


@pytest.mark.parametrize("name", RUN_FILES)
def test_number_of_parameters(name: str) -> None:
    config, _ = load_config(RUN_FILES[name])
    assert count_parameters(config) == PARAMETERS[name]


def test_numbers_of_parameters_of_qm9_are_the_published_ones() -> None:
    assert f"{QM9_11M / 1e6:.2f} {QM9_9M / 1e6:.2f}" == "11.20 9.35"


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_part_is_its_preset(name: str) -> None:
    config, _ = load_config(CONFIGS / f"{name}.yml")
    settings = settings_of_network(config["model"])
    if name.startswith("qm9"):
        settings["alpha_drop"] = PRESETS[name].alpha_drop  # the runs give it
    assert parse_model_settings(settings)[0] == PRESETS[name]


def test_every_model_part_has_a_preset() -> None:
    parts = {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/model/*.yml")}
    assert parts == set(PRESETS)


def test_models_predict_forces_where_the_data_have_them() -> None:
    for name, path in RUN_FILES.items():
        model = load_config(path)[0]["model"]
        _, options = parse_model_settings(settings_of_network(model))
        assert options.otf_graph is model["otf_graph"] is True
        assert options.use_pbc is not name.startswith("qm9")
        assert ("forces" in load_config(path)[0]["outputs"]) == ("heads" not in model)
