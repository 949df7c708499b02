import numpy as np
import pytest

from ev2_plugin.data.splitting import QM9_SIZES, parse_fractions, split_qm9, split_systems


def test_shares_are_read():
    assert parse_fractions("0.8,0.1,0.1") == (0.8, 0.1, 0.1)
    assert parse_fractions("1,0,0") == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("text", ["0.8,0.2", "0.8,0.1,0.2", "1.2,-0.1,-0.1", "a,b,c", "0,0.5,0.5"])
def test_other_shares_are_refused(text):
    with pytest.raises(ValueError, match="three shares"):
        parse_fractions(text)


def test_systems_stay_together_and_all_are_used():
    sids = np.repeat(np.arange(100) * 7, np.arange(100) % 5 + 1)
    splits = split_systems(sids, (0.8, 0.1, 0.1), seed=0)
    sizes = []
    for split in range(3):
        own, others = set(sids[splits == split]), set(sids[splits != split])
        assert not own & others
        sizes.append(len(own))
    assert sizes == [80, 10, 10]


def test_a_seed_names_the_split():
    sids = np.arange(50)
    first, again, other = (split_systems(sids, (0.5, 0.3, 0.2), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_small_shares_get_a_system_and_empty_ones_none():
    assert np.bincount(split_systems(np.arange(3), (0.98, 0.01, 0.01), 0)).tolist() == [1, 1, 1]
    assert np.bincount(split_systems(np.arange(10), (0.9, 0.1, 0.0), 0)).tolist() == [9, 1]
    assert np.bincount(split_systems(np.arange(4), (0.1, 0.45, 0.45), 0), minlength=3).min() >= 1
    with pytest.raises(ValueError, match="2 systems cannot fill 3 splits"):
        split_systems(np.array([0, 0, 1]), (0.8, 0.1, 0.1), 0)


def test_qm9_is_split_by_the_published_permutation():
    splits = split_qm9(130_831)
    assert np.bincount(splits).tolist() == [*QM9_SIZES, 10_831]
    order = np.random.default_rng(1).permutation(130_831)
    assert (splits[order[:110_000]] == 0).all()
    assert (splits[order[110_000:120_000]] == 1).all()


def test_part_of_qm9_needs_shares():
    with pytest.raises(ValueError, match="120000 molecules are not all of QM9.*--split"):
        split_qm9(120_000)
