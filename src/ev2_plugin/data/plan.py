"""From finished chunks to the files of the dataset: numbers, splits, shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ev2_plugin.data.conversion import ChunkSummary
from ev2_plugin.data.inventory import Chunk
from ev2_plugin.data.metadata import DatasetMetadata
from ev2_plugin.data.plausibility import WorkBalance
from ev2_plugin.data.shards import Shard, ShardPart
from ev2_plugin.data.splitting import SPLITS, split_qm9, split_systems


@dataclass(frozen=True)
class Samples:
    """All samples of a preparation, in the order of the chunks.

    Attributes:
        databases: The LMDB of each chunk.
        starts: Place of each chunk's first sample, and the number of all samples; shape [chunks + 1].
        offsets: Added to the `sid` of each chunk's samples.
        sids: System of each sample, shape [samples].
        natoms: Atoms of each sample.
        neighbors: Directed edges of each sample.
        tag_rules: Structures by the rule that gave their tags.
        work: Energy differences beside the work of the forces.
    """

    databases: tuple[Path, ...]
    starts: np.ndarray
    offsets: np.ndarray
    sids: np.ndarray
    natoms: np.ndarray
    neighbors: np.ndarray
    tag_rules: np.ndarray
    work: WorkBalance

    def metadata(self, places: np.ndarray) -> DatasetMetadata:
        """Sizes of some of the samples, as `metadata.npz` has them."""
        return DatasetMetadata(self.natoms[places].astype(np.int64), self.neighbors[places].astype(np.int64))


def collect(chunks: Sequence[Chunk], summaries: Sequence[Path]) -> Samples:
    """Join what is known of the chunks' samples.

    Args:
        chunks: All chunks.
        summaries: Their summaries, in the same order.

    Raises:
        ValueError: If only some sources number their systems, or two samples have the same numbers.
    """
    read = [ChunkSummary.read(path) for path in summaries]
    filled = [place for place, summary in enumerate(read) if len(summary.sids)]
    if not filled:
        raise ValueError("the sources hold no samples")
    numbered = [read[place].numbered for place in filled]
    if len(set(numbered)) == 2:
        with_sid, without = (chunks[filled[numbered.index(flag)]].name for flag in (False, True))
        raise ValueError(f"{with_sid} numbers its systems (sid) and {without} does not: number all sources or none")
    sizes = [1 + int(summary.sids.max(initial=-1)) if summary.numbered else 0 for summary in read]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum([len(summary.sids) for summary in read])])
    sids = np.concatenate([summary.sids + offset for summary, offset in zip(read, offsets, strict=True)])
    _refuse_duplicates(sids, np.concatenate([summary.fids for summary in read]), starts, chunks)
    work = WorkBalance()
    for summary in read:
        work.merge(summary.work)
    return Samples(
        databases=tuple(path.with_suffix(".lmdb") for path in summaries),
        starts=starts,
        offsets=offsets,
        sids=sids,
        natoms=np.concatenate([summary.natoms for summary in read]),
        neighbors=np.concatenate([summary.neighbors for summary in read]),
        tag_rules=np.sum([summary.tag_rules for summary in read], axis=0),
        work=work,
    )


def assign(
    samples: Samples, chunks: Sequence[Chunk], shares: Sequence[float] | None, seed: int
) -> dict[str, np.ndarray]:
    """Divide the samples.

    Args:
        samples: All of them.
        chunks: Their chunks; one that was given for a split goes there.
        shares: Shares of training, validation and test systems; None for QM9's own split.
        seed: Of the division.

    Returns:
        Places of the samples of each split that has any, ascending.

    Raises:
        ValueError: If there are too few systems, or not all of QM9 and no shares.
    """
    if any(chunk.split for chunk in chunks):
        of_chunk = np.array([SPLITS.index(chunk.split or "train") for chunk in chunks])
        splits = np.repeat(of_chunk, np.diff(samples.starts))
    elif shares is not None:
        splits = split_systems(samples.sids, shares, seed)
    else:
        splits = split_qm9(len(samples.sids))
    places = {name: np.flatnonzero(splits == number) for number, name in enumerate(SPLITS)}
    return {name: found for name, found in places.items() if len(found)}


def cut(
    samples: Samples, places: dict[str, np.ndarray], size: int, result: Path, summaries: Path, layout: str, task: str
) -> list[Shard]:
    """Cut the splits into files.

    Args:
        samples: All samples.
        places: Those of each split.
        size: Most samples in a file.
        result: Folder that gets one folder per split.
        summaries: Folder of the shards' summaries.
        layout: Layout of the files.
        task: What the samples are for.

    Returns:
        The files to write, split by split.
    """
    ending = "aselmdb" if layout == "aselmdb" else "lmdb"
    shards = []
    for split, chosen in places.items():
        for number, start in enumerate(range(0, len(chosen), size)):
            here = chosen[start : start + size]
            owners = np.searchsorted(samples.starts, here, side="right") - 1
            parts = tuple(
                ShardPart(
                    samples.databases[owner],
                    tuple((here[owners == owner] - samples.starts[owner]).tolist()),
                    int(samples.offsets[owner]),
                )
                for owner in np.unique(owners)
            )
            path = result / split / f"data.{number:04}.{ending}"
            shards.append(Shard(path, summaries / f"{split}.{number:04}.npz", parts, layout, task))
    return shards


def _refuse_duplicates(sids: np.ndarray, fids: np.ndarray, starts: np.ndarray, chunks: Sequence[Chunk]) -> None:
    order = np.lexsort((fids, sids))
    same = np.flatnonzero((np.diff(sids[order]) == 0) & (np.diff(fids[order]) == 0))
    if len(same):
        first, second = sorted(order[same[0] : same[0] + 2].tolist())
        one, other = (chunks[int(np.searchsorted(starts, place, side="right")) - 1].name for place in (first, second))
        raise ValueError(f"{len(same)} samples repeat: sid {sids[first]}, fid {fids[first]} is in {one} and in {other}")
