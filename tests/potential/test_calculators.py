"""ASE calculators by name."""

from __future__ import annotations

import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from ev2_plugin.potential.calculators import build_calculator, parse_keywords


def test_calculators_are_found_by_name() -> None:
    assert isinstance(build_calculator("emt", {}), EMT)
    for name in ("ase.calculators.lj.LennardJones", "ase.calculators.lj:LennardJones"):
        made = build_calculator(name, parse_keywords('{"sigma": 2.0}'))
        assert isinstance(made, LennardJones)
        assert made.parameters["sigma"] == 2.0


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("vasp", {}, "choose emt, or package"),
        ("ase.calculators.nothing:X", {}, "No module named"),
        ("ase.calculators.emt:X", {}, "has no attribute 'X'"),
        ("ase.calculators.singlepoint:SinglePointCalculator", {}, "missing 1 required positional argument"),
        ("ase:Atoms", {}, "makes a Atoms, which is no calculator"),
    ],
)
def test_unknown_calculators_are_refused(name: str, keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_calculator(name, keywords)
    for text in ("[1]", "{"):
        with pytest.raises(ValueError, match="JSON"):
            parse_keywords(text)
