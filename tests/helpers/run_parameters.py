"""The exact number of parameters of every run file's model."""

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
    "oc20/s2ef_all_md_31M_energy_2": 31_058_690,
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
