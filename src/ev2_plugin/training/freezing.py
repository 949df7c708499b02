"""Which weights a training leaves as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WRAPPERS = re.compile(r"^(?:module\.)+")
_BACKBONE = "backbone."
_HEADS = re.compile(r"^(?:output_heads\.|(?:energy|force|scalar|vector)_block\.)")
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_EMBEDDING = ("sphere_embedding.", "source_embedding.", "target_embedding.", "distance_expansion.", "edge_degree_")
FORMS = "none, embedding, blocks:N (the embedding and the first N blocks) or backbone (all but the heads)"


def frozen_names(names: Iterable[str], part: str) -> set[str]:
    """Names of the weights in a part of an EquiformerV2.

    Args:
        names: Of all its parameters, in the flat or in the hydra layout, with or without wrappers' `module.`.
        part: `none`, `embedding` (of elements, distances and degrees), `blocks:N` (the embedding and the first N
            blocks) or `backbone` (everything but the heads).

    Returns:
        Those of the given names that keep their weights.

    Raises:
        ValueError: If the part is another, or the model has fewer blocks.
    """
    plain = {name: _WRAPPERS.sub("", name) for name in names}
    num_blocks = frozen_blocks(part)
    if part == "none":
        return set()
    inside = {name: one.removeprefix(_BACKBONE) for name, one in plain.items() if not _HEADS.match(one)}
    if part == "backbone":
        return set(inside)
    blocks = {name: int(found[1]) for name, one in inside.items() if (found := _BLOCK.match(one))}
    there = 1 + max(blocks.values(), default=-1)
    if num_blocks > there:
        raise ValueError(f"optim.freeze: {part} is more than the {there} blocks of the model")
    embedding = {name for name, one in inside.items() if one.startswith(_EMBEDDING)}
    return embedding | {name for name, number in blocks.items() if number < num_blocks}


def frozen_blocks(part: object) -> int:
    """How many blocks a part names; 0 for those without a number.

    Raises:
        ValueError: If there is no such part.
    """
    if part in ("none", "embedding", "backbone"):
        return 0
    found = re.fullmatch(r"blocks:([1-9]\d*)", part) if isinstance(part, str) else None
    if found is None:
        raise ValueError(f"optim.freeze must be {FORMS}, got {part!r}")
    return int(found[1])
