"""Check how numbers of results are written."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.stage.outputs import format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (256.0, "256"),
        (999.6, "1000"),
        (1024.0, "1024"),
        (-67238.4, "-67238"),
        (4.05e8, "4.05e+08"),
        (3e-15, "3e-15"),
        (0.0, "0"),
        (64, "64"),
        ("all", "all"),
    ],
)
def test_a_value_is_written_without_an_exponent_where_it_is_readable(value: Any, text: str) -> None:
    assert format_value(value) == text
