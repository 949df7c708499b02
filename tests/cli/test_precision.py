from pathlib import Path

import pytest
from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from helpers import tiny_s2ef


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    settings = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    return tiny_s2ef.write_config(tmp_path / "run.yml", tiny_s2ef.config(settings, tiny_s2ef.FLAT_MODEL, "ocp"))


def test_prints_a_table(run_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["precision", "--config-yml", str(run_file), "--dataset", str(tmp_path / "data"), "--samples", "2"]
    )
    assert result.exit_code == 0, result.output
    for part in ("2 structures, cpu", "highest", "bf16", "energy", "forces", "normalised", "these are highest"):
        assert part in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give --config-yml or --checkpoint"),
        (["--checkpoint", "no.pt"], "no.pt: no such file"),
        (["--config-yml", "no.yml"], "no config 'no.yml'"),
        (["--config-yml", "RUN", "--device", "abacus"], "abacus"),
    ],
)
def test_one_sentence_for_what_is_wrong(arguments: list[str], sentence: str, run_file: Path, tmp_path: Path) -> None:
    given = [str(run_file) if argument == "RUN" else argument for argument in arguments]
    result = CliRunner().invoke(app, ["precision", "--dataset", str(tmp_path / "data"), *given])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert result.stdout == ""
