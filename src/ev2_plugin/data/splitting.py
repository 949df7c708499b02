"""Which system goes to which split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")
QM9_SIZES = (110_000, 10_000)
"""Training and validation molecules of the published QM9 results; the rest is for testing."""


def parse_fractions(text: str) -> tuple[float, float, float]:
    """Read the shares of the splits.

    Args:
        text: Like `0.8,0.1,0.1`: training, validation, test.

    Raises:
        ValueError: If there are not three numbers from 0 to 1 that add up to 1, or the first is 0.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"--split {text}: needs three shares, training, validation, test, that add up to 1: 0.8,0.1,0.1"
        )
    return shares


def split_systems(sids: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Divide systems at random; all samples of a system go together.

    Args:
        sids: System of each sample, shape [samples].
        shares: Shares of training, validation and test, counted in systems.
        seed: Of the permutation.

    Returns:
        Place in `SPLITS` of each sample, shape [samples].

    Raises:
        ValueError: If there are fewer systems than splits with a share above 0.
    """
    systems, members = np.unique(sids, return_inverse=True)
    wanted = sum(share > 0 for share in shares)
    if len(systems) < wanted:
        raise ValueError(
            f"{len(systems)} systems cannot fill {wanted} splits, and frames of one trajectory are not divided: give "
            "more systems, --split 1,0,0, or a source per split with --val and --test"
        )
    # at least one system for each share above 0, training taking the rest
    sizes = [max(1, round(share * len(systems))) if share > 0 else 0 for share in shares[1:]]
    sizes = [min(size, len(systems) - wanted + 1) for size in sizes]
    while sum(sizes) >= len(systems):
        sizes[int(np.argmax(sizes))] -= 1
    return _assign(len(systems), (len(systems) - sum(sizes), sizes[0]), seed)[members]


def split_qm9(num_molecules: int) -> np.ndarray:
    """Divide QM9 as Equiformer's published results did (numpy's `default_rng(1)`).

    Args:
        num_molecules: Molecules in the order of the publication, the unconfirmed ones left out.

    Returns:
        Place in `SPLITS` of each molecule, shape [molecules].

    Raises:
        ValueError: If there are too few for that.
    """
    if num_molecules <= sum(QM9_SIZES):
        raise ValueError(
            f"{num_molecules} molecules are not all of QM9, which is split {QM9_SIZES[0]}/{QM9_SIZES[1]}/rest: "
            "say how to divide them with --split"
        )
    return _assign(num_molecules, QM9_SIZES, seed=1)


def _assign(count: int, sizes: tuple[int, int], seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(count)
    splits = np.full(count, 2, dtype=np.int8)
    splits[order[: sizes[0]]] = 0
    splits[order[sizes[0] : sum(sizes)]] = 1
    return splits
