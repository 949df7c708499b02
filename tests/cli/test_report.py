"""`ev2 report` as it is called."""

from pathlib import Path

from typer.testing import CliRunner

from ev2_plugin.cli.main import app
from ev2_plugin.storage.metrics_log import Entry, MetricsLog


def test_a_run_becomes_a_file_that_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "local" / "a"
    folder.mkdir(parents=True)
    log = MetricsLog(folder / "metrics.jsonl")
    log.append(Entry(step=1, split="train", epoch=1.0, time=0.0, values={"loss": 1.0}))
    log.close()
    out = tmp_path / "new" / "report.html"
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "Learning curves" in result.stdout
    assert "Environment:" in result.stderr
    assert out.read_text().startswith("<!doctype html>")


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path} holds no run")
    assert result.stderr.count("\n") == 1
