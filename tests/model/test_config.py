from dataclasses import replace

import pytest

from ev2_plugin.model.config import ModelConfig
from helpers.structures import TINY


def unchecked(**settings: object) -> ModelConfig:
    """The config as a user without annotation checks would make it."""
    config = object.__new__(ModelConfig)
    for name, field in ModelConfig.__dataclass_fields__.items():
        object.__setattr__(config, name, settings.get(name, getattr(TINY, name, field.default)))
    config.__post_init__()
    return config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lmax": 2, "mmax": 3}, "mmax must not exceed lmax, got mmax=3 with lmax=2"),
        ({"lmax": -1}, "lmax must be an integer >= 0, got -1"),
        ({"mmax": 1.0}, "mmax must be an integer, got 1.0"),
        ({"avg_degree": "2e1"}, "avg_degree must be a number, got '2e1'"),
        ({"grid_resolution": "18"}, "grid_resolution must be an integer or null, got '18'"),
        ({"max_neighbors": None}, "max_neighbors must be an integer, got None"),
        ({"use_gate_act": "no"}, "use_gate_act must be true or false, got 'no'"),
        ({"max_radius": True}, "max_radius must be a number, got True"),
        ({"grid_resolution": 9}, "grid_resolution must be even and at least .* got 9"),
        ({"grid_resolution": 4}, "at least 2 .* = 6 for lmax=2, got 4"),
        ({"num_layers": 0}, "num_layers must be a positive integer, got 0"),
        ({"num_heads": True}, "num_heads must be an integer, got True"),
        ({"sphere_channels": 2.5}, "sphere_channels must be an integer, got 2.5"),
        ({"num_radial_basis": 1}, "num_radial_basis must be at least 2, got 1"),
        ({"avg_num_nodes": 0.0}, "avg_num_nodes must be a positive number, got 0.0"),
        ({"avg_degree": float("nan")}, "avg_degree must be a positive number, got nan"),
        ({"alpha_drop": 1.0}, r"alpha_drop is a probability and must lie in \[0, 1\), got 1.0"),
        ({"drop_path_rate": -0.1}, "drop_path_rate is a probability .* got -0.1"),
        ({"norm_type": "batch_norm"}, "norm_type must be one of .*layer_norm_sh.* got 'batch_norm'"),
        ({"weight_init": "xavier"}, "weight_init must be one of .* got 'xavier'"),
        ({"distance_function": "bessel"}, "distance_function must be one of .* got 'bessel'"),
        ({"backend": "cuda"}, "backend must be one of .* got 'cuda'"),
        ({"max_radius": -6.0}, "positive distance in Å, got -6.0"),
        ({"max_neighbors": 0}, "max_neighbors must be at least 1, got 0"),
        (
            {"use_atom_edge_embedding": False, "share_atom_edge_embedding": True},
            "share_atom_edge_embedding: true needs use_atom_edge_embedding: true",
        ),
    ],
)
def test_wrong_values(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unchecked(**settings)


def test_grid_mlp_takes_precedence_over_the_gate_in_feed_forward_networks() -> None:
    config = replace(TINY, use_gate_act=True, use_grid_mlp=True)
    assert config.feed_forward.activation == "separable_s2"
    assert config.attention(0.0).activation == "gate"


def test_configs_are_values() -> None:
    assert replace(TINY) == TINY
    assert hash(replace(TINY)) == hash(TINY)
