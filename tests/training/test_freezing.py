"""Parts of a model by the names of their weights."""

import pytest

from ev2_plugin.training.freezing import frozen_blocks, frozen_names

FLAT = [
    "sphere_embedding.weight",
    "edge_degree_embedding.rad_func.net.0.weight",
    "blocks.0.ga.alpha_dot",
    "blocks.1.ga.alpha_dot",
    "blocks.10.ga.alpha_dot",
    "norm.affine_weight",
    "energy_block.so3_linear_1.weight",
    "force_block.source_embedding.weight",
]
HYDRA = [
    *(f"backbone.{name}" for name in FLAT[:6]),
    "output_heads.energy.energy_block.so3_linear_1.weight",
    "output_heads.forces.force_block.source_embedding.weight",
]
PARTS = {"none": 0, "embedding": 2, "blocks:1": 3, "blocks:2": 4, "blocks:11": 5, "backbone": 6}


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("names", [FLAT, HYDRA], ids=["flat", "hydra"])
@pytest.mark.parametrize(("part", "count"), PARTS.items())
def test_a_part_is_the_beginning_of_the_model(names: list[str], part: str, count: int, prefix: str) -> None:
    given = [prefix + name for name in names]
    assert frozen_names(given, part) == set(given[:count])


def test_more_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"optim\.freeze: blocks:12 is more than the 11 blocks of the model"):
        frozen_names(FLAT, "blocks:12")


@pytest.mark.parametrize("part", ["heads", "blocks", "blocks:", "blocks:0", "blocks:-1", "blocks:1.5", True, 3])
def test_other_parts_are_an_error_that_lists_them(part: object) -> None:
    with pytest.raises(ValueError, match=r"optim\.freeze must be none, embedding, blocks:N .* or backbone .*, got"):
        frozen_blocks(part)
