"""Coverage-guided fuzzing of one format: `fuzz_reader.py FORMAT FOLDER [options of libFuzzer]`."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))  # for helpers
with atheris.instrument_imports(include=["ev2_plugin.storage", "ev2_plugin.data", "ev2_plugin.relax.results"]):
    from helpers.file_readers import READERS, read_or_refuse


def main() -> None:
    name, folder, *options = sys.argv[1:]
    reader, corpus = READERS[name], Path(folder) / "corpus"
    work = Path(tempfile.mkdtemp(dir=folder))
    path = work / reader.name
    corpus.mkdir(exist_ok=True)
    reader.write(path)
    (corpus / "whole").write_bytes(path.read_bytes())
    warnings.simplefilter("ignore")

    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        read_or_refuse(reader, path)

    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *options, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
