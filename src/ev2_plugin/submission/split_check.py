"""Checks of one split's arrays, alone and against its test set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ev2_plugin.submission.expected import Expected
from ev2_plugin.submission.layout import TaskLayout
from ev2_plugin.submission.verdict import Fault, SplitVerdict

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
HALF = np.dtype(np.float16)


def check_split(
    split: str,
    arrays: Mapping[str, np.ndarray],
    layout: TaskLayout,
    expected: Expected | None = None,
    *,
    allow_float16: bool = False,
) -> SplitVerdict:
    """Check the arrays of a split.

    Args:
        split: Its name.
        arrays: By key, without the split's name.
        layout: What the task asks for.
        expected: The test set, if it is to be compared with.
        allow_float16: Half precision is no fault.

    Returns:
        The verdict. A fault that makes later checks meaningless ends them.
    """
    number = len(expected.ids) if expected is not None else None
    missing = [key for key in layout.keys if key not in arrays]
    if missing:
        given = ", ".join(arrays) or "nothing"
        fault = Fault("missing keys", f"{', '.join(missing)} (there is {given})")
        return SplitVerdict(split, None, number, (fault,))
    faults = list(_malformed(arrays, layout, allow_float16))
    remarks = _remarks(arrays, layout, allow_float16)
    ids = arrays["ids"]
    if not faults:
        faults += _faults_of_ids(ids, layout, expected)
        faults += _faults_of_values(arrays, layout)
        if layout.per_atom:
            lengths = chunk_lengths(arrays["chunk_idx"], len(arrays[layout.per_atom]))
            faults += _faults_of_lengths(ids, lengths, layout, expected)
    if expected is not None and not faults and not np.array_equal(ids, expected.ids):
        remarks.append("in the order of the ids as text, as fairchem writes it; the data set has another")
    return SplitVerdict(split, len(ids) if ids.ndim else None, number, tuple(faults), tuple(remarks))


def refuse_copies(verdict: SplitVerdict, arrays: Mapping[str, np.ndarray], seen: dict[str, str]) -> SplitVerdict:
    """Find a split that has the ids of an earlier one: a file that was given twice.

    Args:
        verdict: What is known of the split.
        arrays: Its arrays.
        seen: Splits by a digest of their ids; gets this one.

    Returns:
        The verdict, with a fault more if there is such a split.
    """
    if verdict.faults:
        return verdict
    digest = hashlib.sha256("\n".join(np.sort(arrays["ids"]).tolist()).encode()).hexdigest()
    first = seen.setdefault(digest, verdict.split)
    if first == verdict.split:
        return verdict
    return replace(verdict, faults=(Fault("copy", f"its ids are those of the split {first}: one source for both"),))


def chunk_lengths(chunk_idx: np.ndarray, rows: int) -> np.ndarray:
    """Rows of each structure, [structures], from the cuts between them and the number of all rows."""
    return np.diff(np.concatenate([[0], chunk_idx.astype(np.int64), [rows]]))


def _malformed(arrays: Mapping[str, np.ndarray], layout: TaskLayout, allow_float16: bool) -> Iterator[Fault]:
    """Faults of type and shape."""
    ids = arrays["ids"]
    if ids.ndim != 1 or ids.dtype.kind != "U":
        yield Fault("ids", f"must be a list of texts, got {ids.dtype} of shape {ids.shape}")
        return
    count = len(ids)
    if count == 0:
        yield Fault("ids", "there is no structure")
        return
    shapes: dict[str, tuple[tuple[tuple[int, ...], ...], str]] = {}
    if layout.has_energy:
        shapes["energy"] = (((count,), (count, 1)), f"({count},)")
    if layout.per_atom:
        rows = arrays[layout.per_atom]
        shapes[layout.per_atom] = (((len(rows) if rows.ndim else 0, 3),), "(atoms, 3)")
    for key, (allowed, wanted) in shapes.items():
        array = arrays[key]
        if array.shape not in allowed:
            yield Fault(key, f"shape {array.shape}, needed {wanted} for {count} ids")
        if array.dtype not in FLOATS and not (allow_float16 and array.dtype == HALF):
            lost = ", which rounds an energy of -7.3 eV by up to 0.002 eV" if array.dtype == HALF else ""
            yield Fault("dtype", f"{key} is {array.dtype}{lost}; needed float32 or float64")
    if layout.per_atom:
        yield from _malformed_cuts(arrays["chunk_idx"], count, len(arrays[layout.per_atom]))


def _malformed_cuts(chunk_idx: np.ndarray, count: int, rows: int) -> Iterator[Fault]:
    if chunk_idx.ndim != 1 or (chunk_idx.size and chunk_idx.dtype.kind not in "iu"):
        yield Fault("chunk_idx", f"must be a list of integers, got {chunk_idx.dtype} of shape {chunk_idx.shape}")
    elif len(chunk_idx) != count - 1:
        yield Fault("chunk_idx", f"{len(chunk_idx)} cuts for {count} structures, needed {count - 1}")
    elif (chunk_lengths(chunk_idx, rows) < 0).any():
        yield Fault("chunk_idx", f"cuts must ascend from 0 to {rows}, the number of rows")


def _remarks(arrays: Mapping[str, np.ndarray], layout: TaskLayout, allow_float16: bool) -> list[str]:
    remarks = []
    if layout.has_energy and arrays["energy"].ndim == 2:
        shape = arrays["energy"].shape
        remarks.append(f"energy has shape {shape}, as fairchem 1.10 writes it; older ones write ({shape[0]},)")
    if allow_float16 and any(arrays[key].dtype == HALF for key in layout.keys):
        remarks.append("in half precision")
    return remarks


def _faults_of_ids(ids: np.ndarray, layout: TaskLayout, expected: Expected | None) -> Iterator[Fault]:
    names, counts = np.unique(ids, return_counts=True)
    repeated = names[counts > 1]
    if len(repeated):
        yield Fault("duplicate ids", f"{len(repeated)} come more than once", _names(repeated))
    if expected is None:
        odd = ids[(np.char.find(ids, "_") >= 0) != layout.has_frames]
        if len(odd):
            form = "<sid>_<fid>" if layout.has_frames else "<sid>"
            yield Fault("form of ids", f"{len(odd)} are not of the form {form} of {layout.name}", _names(odd))
        return
    missing = expected.ids[~np.isin(expected.ids, names)]
    if len(missing):
        yield Fault("missing ids", f"{len(missing)} of the data set's {len(expected.ids)}", _names(missing))
    extra = names[~np.isin(names, expected.ids)]
    if len(extra):
        yield Fault("unknown ids", f"{len(extra)} are not in the data set", _names(extra))
    if len(repeated) or len(missing) or len(extra):
        return
    if not np.array_equal(ids, expected.ids) and not np.array_equal(ids, np.sort(expected.ids)):
        place = int(np.flatnonzero(ids != expected.ids)[0])
        text = f"neither that of the data set nor that of the ids: {ids[place]} stands where {expected.ids[place]} does"
        yield Fault("order", text)


def _faults_of_values(arrays: Mapping[str, np.ndarray], layout: TaskLayout) -> Iterator[Fault]:
    """Values that are not finite, by structure."""
    ids = arrays["ids"]
    if layout.has_energy:
        broken = ids[~np.isfinite(arrays["energy"].reshape(-1))]
        if len(broken):
            yield Fault("not finite", f"energy of {len(broken)} structures", _names(broken))
    if layout.per_atom:
        rows = np.flatnonzero(~np.isfinite(arrays[layout.per_atom]).all(axis=1))
        broken = ids[np.unique(np.searchsorted(arrays["chunk_idx"], rows, side="right"))]
        if len(broken):
            yield Fault("not finite", f"{layout.per_atom} of {len(broken)} structures", _names(broken))


def _faults_of_lengths(
    ids: np.ndarray, lengths: np.ndarray, layout: TaskLayout, expected: Expected | None
) -> Iterator[Fault]:
    """Structures with another number of rows than atoms."""
    if expected is None:
        empty = ids[lengths == 0]
        if len(empty):
            yield Fault("number of atoms", f"{len(empty)} structures have no {layout.per_atom}", _names(empty))
        return
    by_name = np.argsort(expected.ids, kind="stable")
    places = np.searchsorted(expected.ids, ids, sorter=by_name).clip(max=len(by_name) - 1)
    places = by_name[places]
    needed = (expected.free if layout.free_only else expected.atoms)[places]
    wrong = np.flatnonzero((lengths != needed) & (expected.ids[places] == ids))
    if not len(wrong):
        return
    first = int(wrong[0])
    kind, other = ("free", "all") if layout.free_only else ("all", "free")
    text = f"{len(wrong)} structures need the {layout.per_atom} of {kind} atoms and have another number; the first "
    text += f"has {lengths[first]} rows for {needed[first]} atoms"
    others = (expected.atoms if layout.free_only else expected.free)[places]
    if (lengths[wrong] == others[wrong]).all():
        text += f" (rows are those of {other} atoms)"
    yield Fault("number of atoms", text, _names(ids[wrong]))


def _names(ids: np.ndarray) -> tuple[str, ...]:
    return tuple(ids.tolist())
