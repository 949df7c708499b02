import numpy as np
import pytest
from ase.data import covalent_radii

from ev2_plugin.demo.systems import (
    ADSORBATES,
    CONTACT_RADII,
    AdsorbateSystem,
    Substrate,
    build_slab,
    draw_systems,
    place_adsorbate,
)

PT3NI = Substrate("Pt", "Ni", 0.25, "111", (2, 2, 3), ((1,), (0,), (3,)))


def system(substrate: Substrate = PT3NI, **changes: object) -> AdsorbateSystem:
    settings = {"adsorbate": "CO", "site": "fcc", "offset": (0.0, 0.0), "lift": 0.0, "tilt": 0.0, "turn": 0.0}
    return AdsorbateSystem(sid=0, substrate=substrate, **(settings | changes))


def test_a_seed_names_the_systems():
    assert draw_systems(30, np.random.default_rng(3)) == draw_systems(30, np.random.default_rng(3))
    assert draw_systems(30, np.random.default_rng(3)) != draw_systems(30, np.random.default_rng(4))


def test_systems_are_numbered_differ_and_share_out_the_adsorbates():
    systems = draw_systems(60, np.random.default_rng(0))
    assert [one.sid for one in systems] == list(range(60))
    assert len({(one.adsorbate, one.substrate) for one in systems}) == 60
    counts = {name: sum(one.adsorbate == name for one in systems) for name in ADSORBATES}
    assert set(counts.values()) == {60 // len(ADSORBATES)}


def test_drawn_systems_hold_pure_metals_and_alloys_on_both_facets():
    substrates = [one.substrate for one in draw_systems(60, np.random.default_rng(0))]
    assert {substrate.facet for substrate in substrates} == {"111", "100"}
    assert {substrate.fraction for substrate in substrates} == {0.0, 0.25, 0.5}
    assert all((one.host == one.guest) == (one.fraction == 0.0) for one in substrates)


def test_a_number_of_systems_must_be_positive():
    with pytest.raises(ValueError, match="must be positive, not 0"):
        draw_systems(0, np.random.default_rng(0))


def test_layers_below_the_free_ones_are_fixed_and_tagged():
    slab = build_slab(PT3NI)
    heights = np.round(slab.positions[:, 2], 3)
    lowest = heights == heights.min()
    assert lowest.sum() == 4
    assert (slab.get_tags() == np.where(lowest, 0, 1)).all()
    assert sorted(slab.constraints[0].index) == sorted(np.flatnonzero(lowest))
    assert slab.pbc.all()


def test_every_layer_of_an_alloy_has_its_share_of_guests():
    slab = build_slab(PT3NI)
    for height in set(np.round(slab.positions[:, 2], 3)):
        layer = slab[np.round(slab.positions[:, 2], 3) == height]
        assert sorted(layer.get_chemical_symbols()) == ["Ni", "Pt", "Pt", "Pt"]


def test_lattice_constants_are_mixed():
    def step(substrate: Substrate) -> float:
        return float(np.linalg.norm(build_slab(substrate).cell[0])) / 2

    pure = [step(Substrate(metal, metal, 0.0, "100", (2, 2, 3), ((), (), ()))) for metal in ("Pt", "Ni")]
    mixed = step(Substrate("Pt", "Ni", 0.5, "100", (2, 2, 3), ((0, 1), (0, 1), (0, 1))))
    assert pure[1] < mixed < pure[0]
    assert mixed == pytest.approx(sum(pure) / 2)


def test_names_tell_composition_and_facet():
    assert PT3NI.name == "Pt3Ni(111)"
    assert Substrate("Pt", "Ni", 0.5, "100", (2, 2, 3), ((0, 1),) * 3).name == "PtNi(100)"
    assert system(adsorbate="OH").name == "OH on Pt3Ni(111)"


@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_an_atom_on_a_hollow_touches_its_neighbors(lift):
    substrate = Substrate("Cu", "Cu", 0.0, "100", (2, 2, 3), ((), (), ()))
    slab = build_slab(substrate)
    placed = place_adsorbate(system(substrate, adsorbate="O", site="hollow", lift=lift), slab)
    assert placed.get_tags().tolist() == [*slab.get_tags(), 2]
    placed.positions[-1, 2] -= lift
    distances = np.sort(placed.get_distances(-1, range(len(slab)), mic=True))
    np.testing.assert_allclose(distances[:4], CONTACT_RADII["O"] + covalent_radii[29], atol=1e-6)


def test_placing_leaves_the_slab_and_keeps_the_adsorbate_whole():
    slab = build_slab(PT3NI)
    before = slab.copy()
    placed = place_adsorbate(system(tilt=50.0, turn=120.0, offset=(0.1, -0.1), lift=0.2), slab)
    assert (slab.positions == before.positions).all()
    assert len(slab) == len(before)
    assert placed.get_chemical_symbols()[-2:] == ["C", "O"]
    bond = placed.positions[-1] - placed.positions[-2]
    assert np.linalg.norm(bond) == pytest.approx(1.16)
    assert np.degrees(np.arccos(bond[2] / 1.16)) == pytest.approx(50.0)
    assert len(placed.constraints[0].index) == 4
