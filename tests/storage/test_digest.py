"""Digests tell contents apart."""

from collections import OrderedDict
from typing import Any

import pytest
import torch

from ev2_plugin.storage.digest import digest_of

DIFFERENT: list[Any] = [
    None,
    0,
    0.0,
    -0.0,
    False,
    "0",
    b"0",
    [],
    {},
    [0],
    [[0]],
    [0, 0],
    ["a", "b"],
    ["ab"],
    {"a": 1},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    torch.zeros(0),
    torch.zeros(1),
    torch.zeros(1, dtype=torch.int32),
    torch.zeros(1, 1),
    torch.tensor(0.0),
    torch.zeros(1, dtype=torch.float16),
    torch.zeros(1, dtype=torch.bfloat16),
    torch.zeros(1, dtype=torch.bool),
    {"a": torch.zeros(2)},
    {"a": torch.tensor([0.0, 1e-45])},
]


def test_what_differs_has_another_digest() -> None:
    digests = [digest_of(content) for content in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)


def test_equal_contents_have_one_digest() -> None:
    content = {"a": torch.arange(6.0).view(2, 3).T, "b": (1, 2.5, [None])}
    same = OrderedDict(a=torch.arange(6.0).view(2, 3).T.contiguous(), b=[1, 2.5, (None,)])
    assert digest_of(content) == digest_of(same)


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no digest of builtins\.set"):
        digest_of({"a": {1}})
