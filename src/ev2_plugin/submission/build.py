"""Build a submission from what a model's runs have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ev2_plugin.submission.archive import write_archive
from ev2_plugin.submission.layout import TaskLayout, chosen_layout, chosen_splits
from ev2_plugin.submission.sources import Arrays, join_parts, read_source
from ev2_plugin.submission.split_check import check_split, refuse_copies
from ev2_plugin.submission.verdict import SplitVerdict, Verdict


class RefusedError(ValueError):
    """A submission that must not be sent.

    Attributes:
        verdict: What is wrong with it.
    """

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(f"{verdict.file} is not written: what it is made of has faults")


def build_submission(
    out: Path,
    dataset: str,
    task: str,
    sources: Mapping[str, Sequence[Path]],
    *,
    hybrid: bool = False,
    allow_float16: bool = False,
    follow: Callable[[str], None] = lambda split: None,
) -> Verdict:
    """Check what the splits' sources hold and write it into one file, one split in memory at a time.

    Args:
        out: The file, `*.npz`; it appears when it is complete.
        dataset: oc20 or oc22.
        task: s2ef, is2re or is2rs.
        sources: Files or folders by split, see `sources.read_source`. Several of one split are put in the order of ids.
        hybrid: Relaxed energies from S2EF predictions at relaxed structures.
        allow_float16: Half precision is no fault.
        follow: Called with the name of each split that is begun.

    Returns:
        What the checks that need no test set found: no faults.

    Raises:
        FileNotFoundError: If there is no folder for the file.
        RefusedError: If they found faults; no file is written.
        ValueError: If a split has no source, or a source cannot be read.
    """
    layout, splits = chosen_layout(task), chosen_splits(dataset)
    if out.suffix != ".npz":
        raise ValueError(f"{out}: the file's name must end in .npz")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent} to write it to")
    if set(sources) != set(splits):
        lacking = ", ".join(split for split in splits if split not in sources) or "nothing"
        foreign = ", ".join(split for split in sources if split not in splits) or "nothing"
        raise ValueError(f"{dataset} has the splits {', '.join(splits)}; missing: {lacking}; not among them: {foreign}")
    found: list[SplitVerdict] = []
    seen: dict[str, str] = {}

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for split in splits:
            follow(split)
            content, verdict = _read_split(split, sources[split], layout, hybrid, allow_float16)
            found.append(refuse_copies(verdict, content, seen))
            if not any(one.faults for one in found):
                yield from ((f"{split}_{key}", content[key]) for key in layout.keys)
        verdict_of_all = Verdict(out, dataset, task, tuple(found))
        if not verdict_of_all.passes:
            raise RefusedError(verdict_of_all)

    write_archive(out, arrays())
    return Verdict(out, dataset, task, tuple(found))


def _read_split(
    split: str, paths: Sequence[Path], layout: TaskLayout, hybrid: bool, allow_float16: bool
) -> tuple[Arrays, SplitVerdict]:
    parts: list[Arrays] = []
    remarks: list[str] = []
    for path in paths:
        part, known = read_source(path, layout, hybrid)
        verdict = check_split(split, part, layout, allow_float16=allow_float16)
        parts.append(part)
        remarks += [*known, *verdict.remarks]
        if verdict.faults:
            return part, verdict
    content = parts[0] if len(parts) == 1 else join_parts(parts, layout)
    verdict = check_split(split, content, layout, allow_float16=allow_float16) if len(parts) > 1 else verdict
    return content, SplitVerdict(split, len(content["ids"]), None, verdict.faults, tuple(dict.fromkeys(remarks)))
