"""Weights and their sidecar: bits kept, and one clear error for whatever is wrong with the pair."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ev2_plugin.storage.digest import digest_of
from ev2_plugin.storage.safetensors_file import read_weights, sidecar_of, write_weights

ABOUT = {"energy": {"kind": "total"}, "cutoff": 12.0, "symbols": ["H", "Å"], "none": None, "nested": [{"a": [1, 2.5]}]}


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, 6, generator=generator)
    return {
        "z.table": table,
        "a.view": table[:, 2:4],
        "a.transposed": table.mT,
        "half": table.bfloat16(),
        "double": table.double(),
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 3),
        "nan": torch.tensor([torch.nan, -torch.inf, -0.0]),
    }


def write(folder: Path) -> Path:
    path = folder / "model.safetensors"
    write_weights(path, weights(), ABOUT)
    return path


def test_every_bit_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    digest = write_weights(path, weights(), ABOUT)
    found, about = read_weights(path)
    assert digest_of(found) == digest == about["weights"]["digest"] == digest_of(dict(sorted(weights().items())))
    assert {key: about[key] for key in ABOUT} == ABOUT
    assert about["weights"] | {"digest": ""} == {
        "file": "model.safetensors", "digest": "", "tensors": 8, "numbers": 24 + 8 + 24 + 24 + 24 + 1 + 0 + 3,
    }  # fmt: skip


def test_others_read_the_weights_without_the_sidecar(tmp_path: Path) -> None:
    path = write(tmp_path)
    sidecar_of(path).unlink()
    assert torch.equal(safetensors.torch.load_file(path)["z.table"], weights()["z.table"])


def test_weights_stay_when_the_file_is_gone_or_changed(tmp_path: Path) -> None:
    path = write(tmp_path)
    found, _ = read_weights(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(found["z.table"], weights()["z.table"])


def change_sidecar(path: Path, **changes: Any) -> None:
    sidecar = sidecar_of(path)
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **changes}))


def change_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


FAULTS = {
    "no sidecar": (lambda path: sidecar_of(path).unlink(), r"needs model\.json beside it"),
    "a cut sidecar": (lambda path: sidecar_of(path).write_bytes(sidecar_of(path).read_bytes()[:40]), "is no JSON"),
    "an empty sidecar": (lambda path: sidecar_of(path).write_text(""), "is no JSON, or damaged"),
    "NaN": (lambda path: sidecar_of(path).write_text('{"a": NaN}'), "NaN is no JSON"),
    "a deep sidecar": (lambda path: sidecar_of(path).write_text("[" * 10**5), "is no JSON, or damaged"),
    "no text": (lambda path: sidecar_of(path).write_bytes(b"\xff\xfe{"), "is no JSON, or damaged"),
    "a list": (lambda path: sidecar_of(path).write_text("[]"), "of another kind: its format is not ev2_plugin"),
    "another format": (lambda path: change_sidecar(path, format="x"), "of another kind"),
    "a later version": (lambda path: change_sidecar(path, version=2), "of version 2, this release reads 1"),
    "no version": (lambda path: change_sidecar(path, version=None), "of version None"),
    "no digest": (lambda path: change_sidecar(path, weights={}), "it has no digest of the weights"),
    "an edit": (lambda path: change_sidecar(path, cutoff=6.0), r"is not what was written beside model\.safetensors"),
    "a flipped bit": (change_weights, r"is damaged: its weights are not those that model\.json gives the digest of"),
    "cut weights": (lambda path: path.write_bytes(path.read_bytes()[:-3]), "is no safetensors file, or damaged"),
    "no weights": (lambda path: path.write_bytes(b""), "is no safetensors file, or damaged"),
    "somebody else's": (
        lambda path: safetensors.torch.save_file({"a": torch.zeros(2)}, path),
        "is not what was written beside",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_the_pair_is_said(fault: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    damage, message = FAULTS[fault]
    damage(path)
    with pytest.raises(ValueError, match=message) as error:
        read_weights(path)
    assert str(tmp_path) in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, torch.zeros(2)])
def test_what_json_cannot_hold(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.json: something to be written there is no JSON"):
        write_weights(tmp_path / "model.safetensors", weights(), {"a": value})
    assert not list(tmp_path.iterdir())


def test_another_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        write_weights(tmp_path / "model.bin", weights(), {})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    path = write(tmp_path_factory.mktemp("pair"))
    return path, path.read_bytes(), sidecar_of(path).read_bytes()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Change = tuple[int, bytes]
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def mutated(content: bytes, changes: list[Change], reach: int) -> bytes:
    out = bytearray(content)
    for place, new in changes:
        start = place % reach
        out[start : start + len(new)] = new
    return bytes(out)


def refusal(path: Path) -> str | None:
    """The message of a ValueError, which is all that may be raised."""
    try:
        read_weights(path)
    except ValueError as error:
        return str(error)
    return None


def assert_refused_or_the_same(path: Path) -> None:
    message = refusal(path)
    if message is not None:
        assert str(path.parent) in message
        return
    found, about = read_weights(path)
    assert digest_of(found) == digest_of(dict(sorted(weights().items())))
    assert {key: about[key] for key in ABOUT} == ABOUT


@FUZZ
@given(changes=CHANGES)
def test_fuzzed_header(pair: tuple[Path, bytes, bytes], changes: list[Change]) -> None:
    path, content, sidecar = pair
    header = 8 + struct.unpack("<Q", content[:8])[0]
    path.write_bytes(mutated(content, changes, header))
    sidecar_of(path).write_bytes(sidecar)
    assert_refused_or_the_same(path)


@FUZZ
@given(changes=CHANGES)
def test_fuzzed_sidecar(pair: tuple[Path, bytes, bytes], changes: list[Change]) -> None:
    path, content, sidecar = pair
    path.write_bytes(content)
    sidecar_of(path).write_bytes(mutated(sidecar, changes, len(sidecar)))
    assert_refused_or_the_same(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F64", "BF16", "F8_E4M3", "I64", "BOOL", "U16", "F4", "C64", "x"]),
        "shape": st.lists(st.integers(-1, 2**63), max_size=3),
        "data_offsets": st.lists(st.integers(0, 600), min_size=2, max_size=2),
    },
)


@FUZZ
@given(header=st.dictionaries(st.sampled_from(["a", "__metadata__", ""]), ENTRY | JSON, max_size=3), body=st.binary())
def test_made_up_headers(pair: tuple[Path, bytes, bytes], header: dict[str, Any], body: bytes) -> None:
    path, _, sidecar = pair
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    sidecar_of(path).write_bytes(sidecar)
    assert_refused_or_the_same(path)


@FUZZ
@given(content=JSON, weights_entry=JSON)
def test_made_up_sidecars(pair: tuple[Path, bytes, bytes], content: Any, weights_entry: Any) -> None:
    path, weights_file, sidecar = pair
    path.write_bytes(weights_file)
    for made in (content, {**json.loads(sidecar), "weights": weights_entry}):
        sidecar_of(path).write_text(json.dumps(made))
        with pytest.raises(ValueError, match="model") as error:
            read_weights(path)
        assert str(path.parent) in str(error.value)
