"""Check a submission before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ev2_plugin.submission.archive import Archive, open_archive
from ev2_plugin.submission.expected import read_expected
from ev2_plugin.submission.layout import TaskLayout, chosen_layout, chosen_splits
from ev2_plugin.submission.split_check import check_split, refuse_copies
from ev2_plugin.submission.verdict import Fault, SplitVerdict, Verdict


def check_submission(
    path: Path,
    dataset: str,
    task: str,
    test_sets: Mapping[str, Sequence[Path]],
    *,
    allow_float16: bool = False,
    workers: int = 1,
    follow: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> Verdict:
    """Check a file, one split in memory at a time.

    Args:
        path: The file.
        dataset: oc20 or oc22.
        task: s2ef, is2re or is2rs.
        test_sets: Files or folders of the test set by split; splits without one are checked by themselves.
        allow_float16: Half precision is no fault.
        workers: Processes that read test sets.
        follow: Called with a split, structures of its test set that are read, and all of them.

    Returns:
        The verdict.

    Raises:
        FileNotFoundError: If there is no such file or test set.
        ValueError: If the file is no archive, a test set cannot be read, or there is no such task, data set or split.
    """
    layout, splits = chosen_layout(task), chosen_splits(dataset)
    foreign = [split for split in test_sets if split not in splits]
    if foreign:
        raise ValueError(f"{dataset} has the splits {', '.join(splits)}, not {', '.join(foreign)}")
    found: list[SplitVerdict] = []
    seen: dict[str, str] = {}
    with open_archive(path) as archive:
        known = {f"{split}_{key}" for split in splits for key in layout.keys}
        unknown = [name for name in archive.names if name not in known]
        for split in splits:
            expected = None
            if test_sets.get(split):
                report = _named(follow, split)
                expected = read_expected(test_sets[split], layout.has_frames, workers, report)
            arrays, unreadable = _read_split(archive, split, layout)
            if unreadable:
                verdict = SplitVerdict(split, None, len(expected.ids) if expected else None, tuple(unreadable))
            else:
                verdict = check_split(split, arrays, layout, expected, allow_float16=allow_float16)
            found.append(refuse_copies(verdict, arrays, seen))
            del arrays
    faults = (Fault("unknown keys", ", ".join(unknown)),) if unknown else ()
    return Verdict(path, dataset, task, tuple(found), faults)


def _read_split(archive: Archive, split: str, layout: TaskLayout) -> tuple[dict[str, np.ndarray], list[Fault]]:
    arrays: dict[str, np.ndarray] = {}
    faults = []
    for key in layout.keys:
        name = f"{split}_{key}"
        if name not in archive.names:
            continue
        try:
            arrays[key] = archive.read(name)
        except ValueError as error:
            faults.append(Fault("unreadable", str(error)))
    if not arrays and not faults:
        faults.append(Fault("missing split", f"no key of the file begins with {split}_ and ends as the task's do"))
    return arrays, faults


def _named(follow: Callable[[str, int, int], None], split: str) -> Callable[[int, int], None]:
    return lambda done, total: follow(split, done, total)
