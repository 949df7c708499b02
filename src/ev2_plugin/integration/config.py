"""The host's model section of a YAML file -> `ModelConfig`."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ev2_plugin.model.config import ModelConfig, check_kinds

AVG_NUM_NODES = 77.81317
"""Mean number of atoms per structure of OC20 IS2RE-100k: the official default."""

AVG_DEGREE = 23.395238876342773
"""Mean number of neighbours of OC20 IS2RE-100k at 5 Å and at most 100 neighbours: the official default."""

INERT = (
    "num_sphere_samples",
    "num_distance_basis",
    "attn_activation",
    "ffn_activation",
)
"""Keys of the official files that the official code does not use either."""


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """Settings of the model section that are not the network's.

    Attributes:
        use_pbc: Respect periodic boundaries; each system's own if the data says which.
        otf_graph: Find neighbours on the fly instead of reading them from the data.
        regress_forces: Predict forces (flat model).
        load_energy_lin_ref: Hold per-element reference energies.
        use_energy_lin_ref: Add them to predicted energies.
        gauge_seed: Draw the edge frames' gauge from a generator of this seed; None for gauge 0.
        compile: Run the model (in the hydra form its backbone) through torch.compile.
        cuda_graph_atoms: Inference on a GPU replays recorded work for batches of up to that many atoms, which it pads;
            None for never.

    Raises:
        ValueError: If a value is of another kind or out of range.
    """

    use_pbc: bool = True
    otf_graph: bool = True
    regress_forces: bool = True
    load_energy_lin_ref: bool = False
    use_energy_lin_ref: bool = False
    gauge_seed: int | None = None
    compile: bool = False
    cuda_graph_atoms: int | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.cuda_graph_atoms is not None and self.cuda_graph_atoms < 1:
            raise ValueError(
                f"cuda_graph_atoms must be a positive number of atoms or null, got {self.cuda_graph_atoms}"
            )


def parse_model_settings(settings: Mapping[str, Any]) -> tuple[ModelConfig, HostOptions]:
    """Read the keys of the official EquiformerV2 files, and ours.

    The official `lmax_list: [6]` and `mmax_list: [2]` are read as `lmax: 6` and `mmax: 2`; missing keys take the
    official code's defaults; keys that never had an effect are accepted with one warning.

    Args:
        settings: The model section without `name` or `model`.

    Raises:
        ValueError: If a key is unknown (with a suggestion) or a value cannot be right.
    """
    given = {key: value for key, value in settings.items() if key not in INERT}
    inert = sorted(set(settings) & set(INERT))
    if inert:
        logging.warning(f"EquiformerV2: these keys have no effect, here or in the official code: {', '.join(inert)}")
    given.pop("use_pbc_single", None)  # whether the host makes graphs system by system; here they always are
    if given.pop("use_s2_act_attn", False):
        raise ValueError("use_s2_act_attn must be false: no EquiformerV2 code implements attention after S2 activation")
    for name in ("lmax", "mmax"):
        if (listed := given.pop(f"{name}_list", None)) is not None:
            if name in given:
                raise ValueError(f"give either {name} or {name}_list, not both")
            given[name] = _only_one(f"{name}_list", listed)
    given = {key: value for key, value in given.items() if value is not None}
    if isinstance(whole := given.get("activation_checkpoint"), bool):  # the official files' switch
        given["activation_checkpoint"] = "block" if whole else "none"
    given.setdefault("avg_num_nodes", AVG_NUM_NODES)
    given.setdefault("avg_degree", AVG_DEGREE)

    network = {field.name for field in fields(ModelConfig)}
    options = {field.name for field in fields(HostOptions)}
    official = {*INERT, "lmax_list", "mmax_list", "use_pbc_single", "use_s2_act_attn"}
    for key in given:
        if key not in network | options:
            raise ValueError(unknown_key_message(key, network | options | official))
    return (
        ModelConfig(**{key: value for key, value in given.items() if key in network}),
        HostOptions(**{key: value for key, value in given.items() if key in options}),
    )


def unknown_key_message(key: str, known: set[str]) -> str:
    """What to say of a key that nothing reads."""
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
    return f"unknown model key {key!r}; {hint}"


def _only_one(name: str, listed: Any) -> int:
    if not isinstance(listed, list | tuple) or len(listed) != 1:
        raise ValueError(f"{name} must be a list of one integer (one resolution), got {listed!r}")
    return listed[0]
