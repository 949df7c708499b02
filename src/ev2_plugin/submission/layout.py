"""What a submission holds: splits of the data sets, arrays of the tasks.

Every array is stored as `<split>_<key>`: `id_ids`, `ood_ads_energy`, ... Arrays per atom follow one another, and
`chunk_idx` says where `numpy.split` has to cut them: one number less than there are structures.

Source: fairchem-core 1.10, `scripts/make_submission_file.py` and the trainers' prediction files.
"""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = {"oc20": ("id", "ood_ads", "ood_cat", "ood_both"), "oc22": ("id", "ood")}


@dataclass(frozen=True)
class TaskLayout:
    """Arrays of a task.

    Attributes:
        name: s2ef, is2re or is2rs.
        has_energy: Whether there is an energy [eV] per structure.
        per_atom: Key of the array per atom: forces [eV/Å] or positions [Å]; None if there is none.
        free_only: Whether that array leaves fixed atoms out.
        has_frames: Whether an id names a frame too, `<sid>_<fid>`; otherwise it is the `<sid>`.
    """

    name: str
    has_energy: bool
    per_atom: str | None = None
    free_only: bool = False
    has_frames: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of a split, in the order in which they are written."""
        energy = ("energy",) if self.has_energy else ()
        return ("ids", *energy, *((self.per_atom, "chunk_idx") if self.per_atom else ()))


TASKS = {
    layout.name: layout
    for layout in (
        TaskLayout("s2ef", has_energy=True, per_atom="forces", free_only=True, has_frames=True),
        TaskLayout("is2re", has_energy=True),
        TaskLayout("is2rs", has_energy=False, per_atom="pos"),
    )
}


def chosen_layout(task: str) -> TaskLayout:
    """The layout of a task.

    Raises:
        ValueError: If there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r}: choose one of {', '.join(TASKS)}")
    return TASKS[task]


def chosen_splits(dataset: str) -> tuple[str, ...]:
    """The splits of a data set.

    Raises:
        ValueError: If there is no such data set.
    """
    if dataset not in SPLITS:
        raise ValueError(f"dataset {dataset!r}: choose one of {', '.join(SPLITS)}")
    return SPLITS[dataset]
