"""Nothing secret in what is written down."""

import json

import pytest

from ev2_plugin.storage.secrets import REMOVED, is_secret_name, without_secrets

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "WANDB_API_KEY", "apikey", "token", "HF_TOKEN", "access-token", "secret", "AWS_SECRET_ACCESS_KEY"),
        *("password", "DB_PASSWORD", "credentials", "private_key"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["key_mapping", "tokens_per_batch", "energy", "keys", "secretary", "normalizer", "num_heads", "monkey"]
)
def test_names_of_settings(name: str) -> None:
    assert not is_secret_name(name)


def test_no_secret_is_left_anywhere() -> None:
    told = {
        "logger": {"name": "wandb", "project": "ev2", "api_key": KEY},
        "dataset": {"train": {"src": f"s3://me:{KEY}@bucket/data", "key_mapping": {"y": "energy"}}},
        "command": ["ev2", "fairchem", f"--logger.api_key={KEY}", f"--url=https://host/x?token={KEY}&page=2"],
        "note": f"the key is {KEY}.",
        "plain": [1, 2.5, None, True],
    }
    cleaned = without_secrets(told, {"WANDB_API_KEY": KEY, "HOME": "/home/me"})
    assert KEY not in json.dumps(cleaned)
    assert cleaned["logger"] == {"name": "wandb", "project": "ev2", "api_key": REMOVED}
    assert cleaned["dataset"]["train"] == {"src": f"s3://{REMOVED}@bucket/data", "key_mapping": {"y": "energy"}}
    assert cleaned["command"][3] == f"--url=https://host/x?token={REMOVED}&page=2"
    assert cleaned["plain"] == [1, 2.5, None, True]
    assert KEY not in json.dumps(without_secrets({key: told[key] for key in ("dataset", "command")}, {}))


def test_what_is_no_secret_stays() -> None:
    told = {
        "command": ["ev2", "--dataset.train.src=/data/x@2", "--model.num_heads=8", "--logger.api_key_file=here"],
        "src": "https://host/a/b?c=d",
        "api_key": None,
        "mail": "me@host",
    }
    assert without_secrets(told, {"HF_TOKEN": "1"}) == told | {
        "command": [*told["command"][:3], f"--logger.api_key_file={REMOVED}"]
    }
