"""What there is to convert: source files, cut into chunks that are each done or not done."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.db

COMPRESSIONS = (".xz", ".gz", ".bz2")
STRUCTURE_SUFFIXES = (".extxyz", ".xyz", ".traj")
DATABASE_SUFFIXES = (".db", ".aselmdb")
VASP_FILE = re.compile(r"(OUTCAR|vasprun)", re.IGNORECASE)

CHUNK_BYTES = 64 * 2**20
FILES_PER_CHUNK = 2000
ROWS_PER_CHUNK = 10_000


@dataclass(frozen=True)
class SourceFile:
    """One file as it was when the preparation began.

    Attributes:
        path: The file, absolute.
        size: Bytes.
        mtime_ns: When it was last changed.
    """

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """Look at a file."""
        status = path.stat()
        return cls(str(path.resolve()), status.st_size, status.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Compare the file with what it was.

        Raises:
            ValueError: If it is gone or has another size or date.
        """
        path = Path(self.path)
        if not path.is_file():
            raise ValueError(f"{path} is gone since the preparation began")
        if SourceFile.of(path) != self:
            raise ValueError(f"{path} has changed since the preparation began: remove what is prepared and start anew")


@dataclass(frozen=True)
class Chunk:
    """A piece of the work.

    Attributes:
        kind: How its files are read: `ase`, `database`, `oc20`, or one of QM9's forms.
        files: What is read; of `oc20`, structure and text files in turn.
        split: The split it was given for, or None if it is to be divided.
        rows: Where the rows of a database begin and end, counted from 0.
        num_bytes: Bytes to read; the rows of a database share its size.
    """

    kind: str
    files: tuple[SourceFile, ...]
    split: str | None = None
    rows: tuple[int, int] | None = None
    num_bytes: int = 0

    @property
    def name(self) -> str:
        """What to call it in a message."""
        first = self.files[0].path
        return first if len(self.files) == 1 else f"{first} and {len(self.files) - 1} more"


def find_structures(sources: Sequence[Path], split: str | None = None) -> list[Chunk]:
    """List the chunks of files that ASE reads and of the raw OC20 download.

    Args:
        sources: Files, or folders that are searched at any depth for .extxyz, .xyz and .traj files, ASE databases,
            OUTCAR and vasprun.xml files, compressed or not.
        split: The split that all of them are for.

    Returns:
        Chunks in the order of the sources, files of a folder by name.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If a folder has no such file, or a file comes twice.
    """
    chunks: list[Chunk] = []
    seen: set[Path] = set()
    for source in sources:
        kinds: dict[str, list[tuple[Path, ...]]] = defaultdict(list)
        for path in _files_of(source):
            if path.resolve() in seen or uncompressed(path) in seen:
                raise ValueError(f"{path} comes twice among the sources, perhaps once compressed: keep one")
            seen |= {path.resolve(), uncompressed(path)}
            labels = _oc20_labels(path)
            if labels is not None:
                kinds["oc20"].append((path, labels))
            elif path.suffix in DATABASE_SUFFIXES:
                chunks += _database_chunks(path, split)
            else:
                kinds["ase"].append((path,))
        for kind, groups in kinds.items():
            chunks += pack(kind, groups, split)
    return chunks


def pack(kind: str, groups: Iterable[tuple[Path, ...]], split: str | None = None) -> Iterator[Chunk]:
    """Put groups of files that belong together into chunks of about 64 MiB."""
    waiting: list[SourceFile] = []
    for group in groups:
        waiting += map(SourceFile.of, group)
        if sum(file.size for file in waiting) >= CHUNK_BYTES or len(waiting) >= FILES_PER_CHUNK:
            yield _file_chunk(kind, waiting, split)
            waiting = []
    if waiting:
        yield _file_chunk(kind, waiting, split)


def _file_chunk(kind: str, files: list[SourceFile], split: str | None) -> Chunk:
    return Chunk(kind, tuple(files), split, num_bytes=sum(file.size for file in files))


def uncompressed(path: Path) -> Path:
    """Return the absolute path without the ending of a compression."""
    path = path.resolve()
    return path.with_suffix("") if path.suffix in COMPRESSIONS else path


def _files_of(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist")
    found = sorted(path for path in source.rglob("*") if path.is_file() and _is_structure_file(path))
    if not found:
        raise ValueError(
            f"{source} holds no structures: looked for *{', *'.join((*STRUCTURE_SUFFIXES, *DATABASE_SUFFIXES))}, "
            f"OUTCAR and vasprun.xml, also with {', '.join(COMPRESSIONS)}"
        )
    return found


def _is_structure_file(path: Path) -> bool:
    name = uncompressed(path)
    known = name.suffix in (*STRUCTURE_SUFFIXES, *DATABASE_SUFFIXES) or VASP_FILE.match(name.name) is not None
    return known and not path.name.startswith(".")


def _oc20_labels(path: Path) -> Path | None:
    """The text file that the raw download has beside each structure file."""
    if uncompressed(path).suffix != ".extxyz":
        return None
    stem = path.parent / uncompressed(path).stem
    candidates = [stem.with_name(f"{stem.name}.txt{suffix}") for suffix in ("", *COMPRESSIONS)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _database_chunks(path: Path, split: str | None) -> Iterator[Chunk]:
    file = SourceFile.of(path)
    rows = len(database_ids(path))
    if rows == 0:
        raise ValueError(f"{path} has no rows")
    for start in range(0, rows, ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, rows)
        yield Chunk("database", (file,), split, (start, stop), file.size * (stop - start) // rows)


def database_ids(path: Path) -> list[int]:
    """Return the row numbers of an ASE database in their order, without reading the rows where that is possible.

    Raises:
        ValueError: If ASE cannot read it.
    """
    try:
        with open_database(path) as database:
            return (
                list(database.ids) if path.suffix == ".aselmdb" else [row.id for row in database.select(columns=["id"])]
            )
    except Exception as error:  # each backend has its own
        raise ValueError(f"{path} is no ASE database: {error}") from error


def open_database(path: Path) -> ase.db.core.Database:
    """Open an ASE database for reading."""
    options = {"readonly": True, "use_lock_file": False} if path.suffix == ".aselmdb" else {}
    return ase.db.connect(path, **options)
