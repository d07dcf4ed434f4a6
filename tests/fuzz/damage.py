"""Strategies that damage a valid file: its bytes anywhere, or the values of a JSON record."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]
INTERESTING = [
    b"\x00",
    b"\xff",
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x00" * 8,
    b"\n",
    b'"',
    b"{",
    b"[",
]
ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1.5,
        2**63,
        -(2**63),
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "../../x",
        "\x00",
        "x" * 9999,
    ),
    *([], {}, [[]], [None], {"": None}, [[[[[[[[[[]]]]]]]]]], {"use": "os.system"}),
]


@st.composite
def byte_damages(draw: st.DrawFn) -> Damage:
    """Draw one to four changes: replaced, inserted, removed, doubled or swapped bytes, and a cut end."""
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["set", "insert", "remove", "double", "cut", "flip"]))
        place = draw(st.floats(0, 1, exclude_max=True))
        content = draw(st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=12)))
        length = draw(st.integers(1, 64))
        changes.append((kind, place, content, length))

    def damage(data: bytes) -> bytes:
        for kind, place, content, length in changes:
            at = int(place * len(data))
            if kind == "set":
                data = data[:at] + content + data[at + len(content) :]
            elif kind == "insert":
                data = data[:at] + content + data[at:]
            elif kind == "remove":
                data = data[:at] + data[at + length :]
            elif kind == "double":
                data = data[: at + length] + data[at : at + length] * (1 + length) + data[at + length :]
            elif kind == "cut":
                data = data[:at]
            elif data:
                data = data[:at] + bytes([data[at] ^ (1 << length % 8)]) + data[at + 1 :]
        return data

    return damage


@st.composite
def json_damages(draw: st.DrawFn) -> Damage:
    """Draw one to three values of a record that are replaced by odd ones, removed, or given another name."""
    steps = draw(
        st.lists(st.tuples(st.lists(st.integers(0, 50), max_size=5), st.integers(0, 2)), min_size=1, max_size=3)
    )
    values = [draw(st.sampled_from(ODD_VALUES)) for _ in steps]

    def damage(data: bytes) -> bytes:
        record = json.loads(data)
        for (path, kind), value in zip(steps, values, strict=True):
            record = replace_value(record, path, kind, value)
        return json.dumps(record).encode()

    return damage


def replace_value(record: Any, path: list[int], kind: int, value: Any) -> Any:
    """Return the record with the value at a path of positions replaced (kind 0), removed (1) or renamed (2)."""
    if not path or not isinstance(record, dict | list) or not record:
        return value
    keys = list(record) if isinstance(record, dict) else list(range(len(record)))
    key = keys[path[0] % len(keys)]
    if len(path) > 1 and isinstance(record[key], dict | list) and record[key]:
        record[key] = replace_value(record[key], path[1:], kind, value)
    elif kind == 0:
        record[key] = value
    else:
        content = record.pop(key)
        if kind == 2 and isinstance(record, dict):
            record[f"{key}x"] = content
    return record
