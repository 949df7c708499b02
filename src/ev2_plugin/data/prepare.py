"""From sources to a folder that the host trains on; where a kill interrupts it, the next call of the same kind goes on.

Everything is made in a hidden folder beside the target and renamed once, at the end::

    .NAME.partial/manifest.json          settings and sources, compared by the next call
    .NAME.partial/chunks/000000.lmdb     samples of one chunk of the sources, and .npz when it is done
    .NAME.partial/shards/train.0000.npz  says that a file of the result is done, and holds its sums
    .NAME.partial/result/                what becomes NAME: train/, val/, test/, run.yml, report.json, manifest.json
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ev2_plugin.data.conversion import ConversionSettings, convert_chunk
from ev2_plugin.data.inventory import Chunk, find_structures
from ev2_plugin.data.manifest import FILE_NAME as MANIFEST
from ev2_plugin.data.manifest import Manifest, exclusive, write_json
from ev2_plugin.data.metadata import write_metadata
from ev2_plugin.data.outcome import FILE_NAME as REPORT
from ev2_plugin.data.outcome import Outcome, describe, start_command
from ev2_plugin.data.plan import Samples, assign, collect, cut
from ev2_plugin.data.qm9 import find_qm9
from ev2_plugin.data.recipe import DEFAULTS, FILE_NAME, Recipe, check_covered, fit_scale, run_config, write_run_file
from ev2_plugin.data.shards import LABELS, LabelSums, write_shard
from ev2_plugin.workers import run_jobs

Follow = Callable[[str, int, int], None]
"""Called with what is done, how much of it and out of how much: bytes read, then samples written."""

SAMPLES_PER_FILE = 50_000


@dataclass(frozen=True)
class Preparation:
    """What to prepare.

    Attributes:
        out: The folder to make.
        sources: Files or folders to divide, or for training if there are others for validation or testing.
        val: Sources of the validation split.
        test: Sources of the test split.
        shares: Shares of training, validation and test systems; None with `val` or `test`, and for all of QM9.
        seed: Of the division.
        task: `s2ef`, `is2re` or `qm9`.
        layout: `oc20`, `oc22` or `aselmdb`.
        recipe: The run that the dataset is for.
        fit_references: Fit element references; None does unless the sources are the raw OC20 download, whose energies
            are referenced already.
        tags_from_constraints: Do not look at the files' tags.
        workers: Processes.
        samples_per_file: Most samples in a file.
        with_run_file: Write `run.yml` beside the data. Who makes a run file of his own needs no trainable recipe.
    """

    out: Path
    sources: tuple[Path, ...]
    recipe: Recipe
    val: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    shares: tuple[float, float, float] | None = None
    seed: int = 0
    task: str = "s2ef"
    layout: str = "oc20"
    fit_references: bool | None = None
    tags_from_constraints: bool = False
    workers: int = 1
    samples_per_file: int = SAMPLES_PER_FILE
    with_run_file: bool = True

    def __post_init__(self) -> None:
        if (self.task, self.layout) not in DEFAULTS:
            raise ValueError(f"the host reads no {self.task} dataset of layout {self.layout}")
        if self.shares is not None and (self.val or self.test):
            raise ValueError("--split divides sources and --val, --test name them: give one or the other")
        if self.shares is None and not (self.val or self.test) and self.task != "qm9":
            raise ValueError("say how to divide the systems with --split 0.8,0.1,0.1, or give --val or --test")

    @property
    def work(self) -> Path:
        """The folder in which the dataset is made."""
        return self.out.parent / f".{self.out.name}.partial"


def prepare(wanted: Preparation, follow: Follow = lambda stage, done, total: None) -> Outcome:
    """Prepare a dataset, or go on with it.

    Args:
        wanted: What to prepare.
        follow: Told of the progress.

    Returns:
        What was made. A folder that is complete is left as it is.

    Raises:
        FileExistsError: If the target exists and was not made by such a call.
        FileNotFoundError: If a source does not exist.
        RuntimeError: If another process prepares the same folder.
        ValueError: If sources cannot be read or learnt from, or they or the settings differ from those the work was
            begun with.
    """
    chunks = _chunks(wanted)
    settings = ConversionSettings(
        wanted.task, wanted.recipe.cutoff, wanted.recipe.max_neighbors, wanted.tags_from_constraints
    )
    manifest = Manifest(asdict(settings), _division(wanted, chunks), tuple(chunks))
    if wanted.out.exists():
        if not (wanted.out / MANIFEST).is_file():
            raise FileExistsError(f"{wanted.out} exists and is no prepared dataset: remove it or choose another --out")
        made = Manifest.read(wanted.out)
        made.check_conversion(manifest, wanted.out)
        made.check_division(manifest, wanted.out)
    else:
        with exclusive(wanted.work):
            _make(wanted, settings, manifest, follow)
    shutil.rmtree(wanted.work, ignore_errors=True)
    return Outcome.read(wanted.out)


def _chunks(wanted: Preparation) -> list[Chunk]:
    if wanted.task == "qm9":
        if len(wanted.sources) != 1 or wanted.val or wanted.test:
            raise ValueError("QM9 is prepared from one folder and divided by its own split or --split")
        return find_qm9(wanted.sources[0])
    whole = not (wanted.val or wanted.test)
    chunks = find_structures(wanted.sources, None if whole else "train")
    for split, sources in (("val", wanted.val), ("test", wanted.test)):
        chunks += find_structures(sources, split) if sources else []
    return chunks


def _division(wanted: Preparation, chunks: Sequence[Chunk]) -> dict[str, Any]:
    fits = wanted.fit_references
    if fits is None:
        fits = wanted.task != "qm9" and all(chunk.kind != "oc20" for chunk in chunks)
    if fits:
        wanted.recipe.check_takes_references()
    return {
        "layout": wanted.layout,
        "recipe": wanted.recipe.name,
        "split": wanted.shares,
        "seed": wanted.seed,
        "fit_references": fits,
        "samples_per_file": wanted.samples_per_file,
    }


def _make(wanted: Preparation, settings: ConversionSettings, manifest: Manifest, follow: Follow) -> None:
    """Everything up to the renaming of the result; what is done already is skipped."""
    work, chunks = wanted.work, manifest.chunks
    result, shard_summaries = work / "result", work / "shards"
    if (work / MANIFEST).is_file():
        begun = Manifest.read(work)
        begun.check_conversion(manifest, work)
        for leftover in work.rglob(".*"):  # half-written files of a process that was killed
            leftover.unlink()
        if begun.division != manifest.division:  # the samples are the same, their files are not
            shutil.rmtree(shard_summaries, ignore_errors=True)  # first: they vouch for the files
            shutil.rmtree(result, ignore_errors=True)
    manifest.write(work)
    for folder in (work / "chunks", shard_summaries, result):
        folder.mkdir(exist_ok=True)

    summaries = [work / "chunks" / f"{number:06}.npz" for number in range(len(chunks))]
    jobs = [partial(convert_chunk, chunk, settings, path) for chunk, path in zip(chunks, summaries, strict=True)]
    _run(jobs, wanted.workers, "read", sum(chunk.num_bytes for chunk in chunks), follow)

    samples = collect(chunks, summaries)
    places = assign(samples, chunks, wanted.shares, wanted.seed)
    shards = cut(samples, places, wanted.samples_per_file, result, shard_summaries, wanted.layout, wanted.task)
    _run([partial(write_shard, shard) for shard in shards], wanted.workers, "write", len(samples.sids), follow)

    sums = {split: LabelSums.of(wanted.task) for split in places}
    for shard in shards:
        sums[shard.path.parent.name].merge(shard.summary)
    for split, chosen in places.items():
        write_metadata(result / split, samples.metadata(chosen))
    _finish(wanted, manifest, samples, places, sums, result)
    result.replace(wanted.out)


def _run(jobs: Sequence[Callable[[], int]], workers: int, stage: str, total: int, follow: Follow) -> None:
    done = 0
    follow(stage, done, total)
    for amount in run_jobs(jobs, workers):
        done += amount
        follow(stage, done, total)


def _finish(
    wanted: Preparation,
    manifest: Manifest,
    samples: Samples,
    places: dict[str, np.ndarray],
    sums: dict[str, LabelSums],
    result: Path,
) -> None:
    """Fit what the training labels say, and write the three small files."""
    recipe, fits_references = wanted.recipe, bool(manifest.division["fit_references"])
    label = LABELS[wanted.task][0]
    recipe.check_elements(sorted({element for split in sums.values() for element in split.fits[label].elements}))
    scale = None if wanted.task == "qm9" else fit_scale(sums["train"], label, recipe, fits_references)
    if scale is not None and scale.references is not None:
        for split, found in sums.items():
            check_covered(scale.references, found.fits[label].elements, split)
    report = describe(samples, places, sums, label, scale, wanted.layout)
    write_json(result / REPORT, report)
    manifest.write(result)
    if not wanted.with_run_file:
        return
    config = run_config(wanted.out.resolve(), list(places), wanted.task, wanted.layout, recipe, scale)
    write_run_file(result / FILE_NAME, config, start_command(wanted.out / FILE_NAME))
