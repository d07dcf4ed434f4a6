"""Messages between workers arrive as they were sent, and reading them runs no code."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from components.storage.moments import Moments
from components.training.messages import decode_message, encode_message


class Job(NamedTuple):
    split: str


class Touch:
    """An object whose unpickling creates a file: the attack in a harmless form."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(map(type, first)) == list(map(type, second))
        assert list(first) == list(second), "in the same order"
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert torch.equal(first, second)
    elif isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert second.flags.f_contiguous or not first.flags.f_contiguous
        assert first.tobytes() == second.tobytes()
        assert second.flags.writeable
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second)
    else:
        assert first == second


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**70), 0.1 + 0.2, -0.0, math.inf, math.nan, "", "Zürich \ud800", b"", b"\0\xff"),
        *([], (), {}, [1, [2, (3,)]], (True, False), {1: "a", "1": "b", (2, "c"): [None]}, {"tuple": [1], "array": 2}),
        *(np.zeros((0, 3)), np.array(2.5), np.arange(6, dtype=">i4").reshape(2, 3), np.array(["a", "long"])),
        *(np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::3], np.array([True, False])),
        *(np.float32(0.1), np.int64(7), np.bool_(True), np.float64(0.1)),
        *(torch.tensor(1.5), torch.empty(0, 2), torch.arange(6).reshape(2, 3).T, torch.tensor([True])),
        *(torch.tensor([0.1, 2, -3]).bfloat16(), torch.tensor([1 + 2j]), torch.zeros(2, 3, 4, 4).contiguous()),
        [{"label": np.arange(3), "probability": np.ones((3, 2), np.float32)}, ({0: {"h": torch.ones(2)}}, 0.5)],
    ],
    ids=repr,
)
def test_a_value_arrives_as_it_was_sent(value: Any) -> None:
    message = encode_message(value)
    assert_same(value, decode_message(message))
    assert_same(value, decode_message(bytearray(message) + b"\0" * 9))


@pytest.mark.parametrize(
    "value",
    [
        *(Moments(1), Touch(Path("x")), Job("train"), Path("x"), {1, 2}, len, 1j),
        *(np.array([None]), np.zeros(2, [("a", "i4")]), torch.eye(2).to_sparse(), [{"a": (Moments(1),)}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_of_another_class_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"an object of .* is not sent to other workers; send None, bool"):
        encode_message(value)


def test_reading_a_strangers_message_runs_no_code(tmp_path: Path) -> None:
    bomb = pickle.dumps(Touch(tmp_path / "touched"))
    for content in (bomb, encode_message(bomb)[:-9], b"", encode_message({"a": np.arange(4)})[:60]):
        with pytest.raises(ValueError, match="a message of another worker cannot be read"):
            decode_message(content)
    assert not (tmp_path / "touched").exists()
    array = np.array([1, 0])
    forged = encode_message(array).replace(array.dtype.str.encode(), b"|O8" if len(array.dtype.str) == 3 else b"O")
    with pytest.raises(ValueError, match="cannot be read"):
        decode_message(forged)
    forged = encode_message(torch.ones(2)).replace(b"float32", b"hub.sys")
    with pytest.raises(ValueError, match="cannot be read"):
        decode_message(forged)
