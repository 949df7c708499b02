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

LEARNABLE_BASIS = 2 * 128 + 2  # a mean and a width for each of 128 functions, one scale, one shift
QM9_11M = 11_197_825 + LEARNABLE_BASIS
QM9_9M = 9_353_025 + LEARNABLE_BASIS
QM9_NOISE_HEAD = 1_668_641  # not published: the counts of Table 13 are those without Noisy Nodes

PARAMETERS = {
    # paper, Table 8
    "oc20/s2ef_2M_83M": 83_164_802,
    "oc20/s2ef_2M_83M_20_epochs": 83_164_802,
    "oc20/s2ef_2M_83M_30_epochs": 83_164_802,
    "oc20/s2ef_all_153M": 153_602_690,
    "oc20/s2ef_all_md_153M_energy_2": 153_602_690,
    "oc20/s2ef_all_md_153M_energy_4": 153_602_690,
    "oc20/s2ef_all_md_31M_energy_4": 31_058_690,
    "oc20/relax_is2re_31M": 31_058_690,
    "oc20/relax_is2re_153M": 153_602_690,
    "oc20/relax_adsorbml_31M": 31_058_690,
    "oc20/relax_adsorbml_153M": 153_602_690,
    "oc20/ablations/s2ef_2M_gate_no_renormalisation": 91_056_322,
    "oc20/ablations/s2ef_2M_gate": 91_057_986,
    "oc20/ablations/s2ef_2M_s2": 81_458_370,
    "oc20/ablations/s2ef_2M_layer_norm": 83_164_802,
    "oc20/ablations/s2ef_2M_layer_norm_20_epochs": 83_164_802,
    "oc20/ablations/s2ef_2M_20_epochs": 83_164_802,
    "oc20/ablations/s2ef_2M_degree_4": 44_826_882,
    "oc20/ablations/s2ef_2M_degree_8": 134_282_242,
    "oc20/ablations/s2ef_2M_degree_8_20_epochs": 134_282_242,
    "oc20/ablations/s2ef_2M_order_3": 95_105_666,
    "oc20/ablations/s2ef_2M_order_4": 102_144_386,
    "oc20/ablations/s2ef_2M_order_6": 106_627_202,
    # not published; derived from the layers' shapes like those above
    "oc20/ablations/s2ef_2M_degree_2": 19_268_482,
    "oc20/ablations/s2ef_2M_depth_8": 57_590_402,
    "oc20/ablations/s2ef_2M_depth_16": 108_739_202,
    "oc20/ablations/s2ef_2M_figure_4_degree_4": 44_826_882,
    "oc20/ablations/s2ef_2M_figure_4_three_quarters": 27_126_754,
    "oc20/ablations/s2ef_2M_figure_4_half": 14_105_282,
    # Table 9: 36.03M and 95.24M, to which the learnable basis does not seem to be counted
    "oc20/is2re_36M": 36_034_433 + LEARNABLE_BASIS,
    "oc20/is2re_95M_noisy_nodes": 95_239_170 + LEARNABLE_BASIS,
    # Table 4: 122M; 121.53M in section E.1
    "oc22/s2ef_total_121M_energy_1_force_1": 121_526_402,
    "oc22/s2ef_total_121M_energy_4_force_100": 121_526_402,
    "oc22/relax_is2re_total_121M": 121_526_402,
    # Table 13: 11.20M for 6 blocks, 9.35M for 5
    **{f"qm9/{target}": QM9_11M for target in ("mu", "alpha", "homo", "lumo", "gap", "Cv")},
    **{f"qm9/{target}": QM9_9M for target in ("r2", "zpve", "U0", "U", "H", "G")},
    **{
        f"qm9/{target}_noisy_nodes": QM9_11M + QM9_NOISE_HEAD
        for target in ("mu", "alpha", "homo", "lumo", "gap", "Cv", "r2", "U0", "U", "H", "G")
    },
    "qm9/zpve_noisy_nodes": QM9_9M + QM9_NOISE_HEAD,
}
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
