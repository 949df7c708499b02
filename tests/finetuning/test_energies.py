"""When labels are of another kind than a model's energies, and what becomes of the element references."""

import numpy as np
import pytest

from ev2_plugin.finetuning.energies import Decision, ZeroShot, compare, decide

SHIFT = {29: -3.5, 8: 1.25}
COMPOSITIONS = [(29, 29, 29, 29), (29, 29, 8), (29, 8, 8, 8, 8), (29, 29, 29, 8, 8, 8)]


def rows(shift: dict[int, float], noise: float = 0.02) -> list[tuple[np.ndarray, float, float]]:
    """Structures whose labels are the model's energies moved by an energy per element."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(5):
        for composition in COMPOSITIONS:
            predicted = -4.0 * len(composition) + rng.normal(scale=0.5)
            label = predicted + sum(shift[z] for z in composition) + rng.normal(scale=noise)
            made.append((np.array(composition), label, predicted))
    return made


def offset(shift: dict[int, float]) -> ZeroShot:
    return compare(rows(shift))


def decided(
    wish: str, zero_shot: ZeroShot, kind: str = "total", references: dict[str, float] | None = None
) -> Decision:
    return decide(wish, zero_shot, kind, 2.0, references, "model.pt")


def test_an_offset_per_element_is_found() -> None:
    found = offset(SHIFT)
    assert found.shift.by_number == pytest.approx(SHIFT, abs=0.01)
    assert found.per_atom_left < 0.01 < 1.0 < found.per_atom
    labels = [label - predicted for _, label, predicted in rows(SHIFT)]
    assert (found.residual.mean, found.residual.std) == pytest.approx((np.mean(labels), np.std(labels, ddof=1)))
    assert (found.structures, found.labels.name) == (20, "total")


@pytest.mark.parametrize("kind", ["total", "adsorption", "referenced", "unknown"])
def test_energies_that_fit_keep_the_references(kind: str) -> None:
    near = offset({29: 0.01, 8: -0.02})
    kept = decided("auto", near, kind, {"Cu": 1.0, "O": 2.0})
    assert (kept.references, kept.fitted) == ({"Cu": 1.0, "O": 2.0}, False)
    assert kept.kind == (None if kind == "unknown" else kind)


def test_total_energies_of_another_origin_move_the_references_of_a_model_of_total_energies() -> None:
    moved = decided("auto", offset(SHIFT), references={"Cu": 10.0, "O": 20.0, "H": 30.0})
    assert moved.references == pytest.approx({"Cu": 6.5, "O": 21.25}, abs=0.01)  # H is in no structure
    assert (moved.fitted, moved.kind) == (True, "total")
    assert "of another origin" in moved.reason


@pytest.mark.parametrize("kind", ["adsorption", "referenced", "unknown"])
def test_total_energies_for_a_model_of_others_are_refused_with_numbers_and_the_way_out(kind: str) -> None:
    with pytest.raises(ValueError, match=kind) as raised:
        decided("auto", offset(SHIFT), kind)
    message = str(raised.value)
    assert "total energies" in message
    assert "--references fit" in message
    assert f"{offset(SHIFT).residual.mean:+.4g}" in message
    assert f"{offset(SHIFT).per_atom:.3g} eV per atom" in message


def test_they_are_taken_if_the_user_says_so() -> None:
    fitted = decided("fit", offset(SHIFT), "adsorption")
    assert fitted.references == pytest.approx({"Cu": -3.5, "O": 1.25}, abs=0.01)
    assert fitted.kind == "total"
    kept = decided("keep", offset(SHIFT), "adsorption")
    assert (kept.references, kept.kind) == (None, "adsorption")
    assert "although the energies do not fit" in kept.reason


def test_an_element_without_reference_gets_one_or_is_named() -> None:
    near = offset({29: 0.01, 8: -0.02})
    assert decided("auto", near, references={"O": 2.0}).references == pytest.approx({"Cu": 0.01, "O": 1.98}, abs=0.01)
    for wish, kind in (("keep", "total"), ("auto", "referenced")):
        with pytest.raises(ValueError, match=r"model\.pt has no element reference for Cu: --references fit"):
            decided(wish, near, kind, {"O": 2.0})


def test_a_small_offset_is_kept_with_a_hint() -> None:
    assert "--references fit would start nearer" in decided("auto", offset({29: 0.3, 8: 0.3})).reason
    assert "nearer" not in decided("auto", offset({29: 0.001, 8: 0.001})).reason
