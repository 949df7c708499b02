import pytest

from ev2_plugin.so3.layout import CoefficientLayout

ALL_PAIRS = [(lmax, mmax) for lmax in range(11) for mmax in range(lmax + 1)]


def expected_rows(lmax: int, mmax: int) -> list[tuple[int, int]]:
    """(degree, order) of every order-major row, from the definition."""
    rows = [(l, m) for l in range(lmax + 1) for m in range(-l, l + 1) if abs(m) <= mmax]
    return sorted(rows, key=lambda row: (abs(row[1]), row[1] < 0, row[0]))


@pytest.mark.parametrize(("lmax", "mmax"), ALL_PAIRS)
def test_order_major_rows(lmax: int, mmax: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    rows = [(layout.degrees[i], layout.orders[i]) for i in layout.kept]
    assert rows == expected_rows(lmax, mmax)
    assert layout.kept_degrees == tuple(l for l, _ in rows)
    assert layout.num_kept == len(rows)
    assert layout.num_coefficients == len(layout.degrees) == len(layout.orders) == (lmax + 1) ** 2


@pytest.mark.parametrize("lmax", range(11))
def test_permutation_and_its_inverse(lmax: int) -> None:
    kept = CoefficientLayout(lmax, lmax).kept
    assert sorted(kept) == list(range((lmax + 1) ** 2))
    row_of = {index: row for row, index in enumerate(kept)}
    assert [row_of[index] for index in kept] == list(range(len(kept)))
    assert [kept[row_of[index]] for index in range(len(kept))] == list(range(len(kept)))


@pytest.mark.parametrize(("lmax", "mmax"), ALL_PAIRS)
def test_blocks_hold_one_order_each(lmax: int, mmax: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    orders = [layout.orders[i] for i in layout.kept]
    start = 0
    for m, (block, size) in enumerate(zip(layout.block_sizes, layout.order_sizes, strict=True)):
        assert orders[start : start + size] == [m] * size
        assert orders[start + size : start + block] == ([-m] * size if m else [])
        start += block
    assert start == layout.num_kept


@pytest.mark.parametrize(("lmax", "mmax"), ALL_PAIRS)
def test_radial_weights_are_shared_by_signs(lmax: int, mmax: int) -> None:
    layout = CoefficientLayout(lmax, mmax)
    non_negative = [(l, m) for l, m in expected_rows(lmax, mmax) if m >= 0]
    assert layout.radial_degrees == tuple(l for l, _ in non_negative)
    assert layout.num_radial == len(non_negative)


def test_published_sizes() -> None:
    assert [CoefficientLayout(*pair).num_kept for pair in ((6, 2), (6, 3), (4, 2))] == [29, 37, 19]
    # radial outputs for 256 channels
    assert [CoefficientLayout(*pair).num_radial * 256 for pair in ((6, 2), (4, 2), (6, 3))] == [4608, 3072, 5632]


def test_truncation_scale() -> None:
    assert CoefficientLayout(4, 4).truncation_scale == (1.0,) * 5
    assert CoefficientLayout(3, 1).truncation_scale == pytest.approx((1, 1, (5 / 3) ** 0.5, (7 / 3) ** 0.5))
    assert CoefficientLayout(2, 0).truncation_scale == pytest.approx((1, 3**0.5, 5**0.5))


@pytest.mark.parametrize(
    ("lmax", "mmax", "message"),
    [
        (2, 3, "mmax=3 with lmax=2"),
        (-1, 0, "lmax must be an integer >= 0, got -1"),
        (2, -1, "mmax must be an integer >= 0, got -1"),
        (True, 1, "lmax must be an integer >= 0, got True"),
    ],
)
def test_wrong_degrees_and_orders(lmax: int, mmax: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoefficientLayout(lmax, mmax)
