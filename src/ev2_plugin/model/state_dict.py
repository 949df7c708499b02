"""State dicts of the official code, read directly.

Parameter names and order are those of the official code, so nothing is renamed. What differs: wrappers put
`module.` in front, any number of times; the hydra layout puts `backbone.` and `output_heads.<name>.`; and the
official modules save tables derived from their settings (index maps, sphere grids, Gaussian centres), which we do
not have. Our own state dicts hold parameters only.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from torch import Tensor, nn

DERIVED = re.compile(
    r"(?:^|\.)(?:SO3_rotation|mappingReduced|SO3_grid)\."
    r"|(?:^|\.)(?:expand_index|balance_degree_weight)$"
    r"|(?:^|\.)distance_expansion\.offset$"
)
"""Keys of buffers that the official modules save although they follow from the settings."""

HYDRA_PREFIX = re.compile(r"^(?:backbone\.|output_heads\.[^.]+\.(?=(?:energy|force)_block\.))")


def strip_module_prefix(key: str) -> str:
    """The key without the `module.` of any number of wrappers."""
    return re.sub(r"^(?:module\.)+", "", key)


def drop_derived_buffers(state_dict: MutableMapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Load hook: forget the official modules' derived buffers below `prefix`."""
    for key in [key for key in state_dict if key.startswith(prefix) and DERIVED.search(key)]:
        del state_dict[key]


def to_flat_layout(state_dict: MutableMapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Load hook of the flat model: undo `module.` and hydra prefixes of a state dict loaded at the root."""
    if prefix:
        return
    for key in list(state_dict):
        flat = HYDRA_PREFIX.sub("", strip_module_prefix(key))
        if flat != key:
            if flat in state_dict:
                raise ValueError(f"two tensors of the state dict are both {flat!r} in the flat layout; one is {key!r}")
            state_dict[flat] = state_dict.pop(key)


def accept_official_keys(module: nn.Module, *, flat: bool = False) -> None:
    """Let `module.load_state_dict` take the official code's state dicts with `strict=True`.

    Args:
        module: Backbone, head or flat model.
        flat: The module has backbone and heads in one, and undoes wrappers' prefixes.
    """
    # the public method of this name appeared in torch 2.5
    if flat:
        module._register_load_state_dict_pre_hook(to_flat_layout)
    module._register_load_state_dict_pre_hook(drop_derived_buffers)
