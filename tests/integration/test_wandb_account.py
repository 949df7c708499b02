"""When wandb would ask for a key, it is told to write locally; whoever has an account or a mode keeps it."""

import os
from pathlib import Path

import pytest

from ev2_plugin.integration.wandb_account import offline_without_account

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_process_state: None) -> Path:
    """A user without accounts, in a folder without settings."""
    for name in [name for name in os.environ if name.startswith("WANDB") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"[default]\n{content}\n")


def test_without_an_account_wandb_is_offline_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    offline_without_account()
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["WANDB_SILENT"] == "true"
    (record,) = caplog.records
    assert "no account is configured" in record.message
    assert "`wandb sync` uploads it later" in record.message


def test_whoever_sets_the_mode_is_not_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "false")
    offline_without_account()
    assert os.environ["WANDB_SILENT"] == "false"
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", KEY),
        ("WANDB_IDENTITY_TOKEN_FILE", "token"),
        ("WANDB_DISABLED", "true"),
        ("WANDB_MODE", "shared"),
    ],
)
def test_the_environment_decides(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    offline_without_account()
    assert os.environ.get("WANDB_MODE") == (value if name == "WANDB_MODE" else None)


@pytest.mark.parametrize("machine", ["api.wandb.ai", "default"])
def test_a_key_in_the_netrc_file_is_an_account(nobody: Path, machine: str) -> None:
    import wandb

    host = wandb.Settings().base_url.removeprefix("https://") if machine == "default" else machine
    (nobody / ".netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
    (nobody / ".netrc").chmod(0o600)
    offline_without_account()
    assert "WANDB_MODE" not in os.environ


def test_a_key_for_another_server_is_none(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    (nobody / ".netrc").chmod(0o600)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.institute.example")
    offline_without_account()
    assert os.environ["WANDB_MODE"] == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
    offline_without_account()
    assert "WANDB_MODE" not in os.environ


def test_a_damaged_netrc_file_is_named(nobody: Path, caplog: pytest.LogCaptureFixture) -> None:
    (nobody / ".netrc").write_text("machin api.wandb.ai\n")
    (nobody / ".netrc").chmod(0o600)
    offline_without_account()
    assert os.environ["WANDB_MODE"] == "offline"
    assert "no key for wandb is read from" in caplog.text


@pytest.mark.parametrize("content", [f"api_key = {KEY}", "mode = offline", "mode = online"])
@pytest.mark.parametrize("path", [".config/wandb/settings", "wandb/settings"])
def test_wandbs_own_settings_decide(nobody: Path, path: str, content: str) -> None:
    settings(nobody / path, content)
    offline_without_account()
    assert "WANDB_MODE" not in os.environ
