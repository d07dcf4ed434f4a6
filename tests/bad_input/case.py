"""A case of bad input, and the check that it gets one line that says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.door import exit_code

ROOT = Path(__file__).parent.parent.parent
Call = Callable[[], Any]
Setup = Callable[[Path], Call]  # prepares an empty folder, and returns the call that must be refused


@dataclass(frozen=True)
class Case:
    """Bad input and a part of the message for it.

    allowed: patterns of complete files that the call may leave behind.
    """

    name: str
    setup: Setup
    message: str
    allowed: tuple[str, ...] = ()


def check_case(case: Case, folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Check that the call ends with exit code 2 and one line, and leaves no incomplete file behind."""
    call = case.setup(folder)
    before = list_files()
    capsys.readouterr()
    assert exit_code(call) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trainyard: ")
    assert captured.err.count("\n") == 1, captured.err
    assert case.message in captured.err
    new = {path for path in list_files() - before if not any(path.match(pattern) for pattern in case.allowed)}
    assert not {path for path in new if path.suffix != ".arrow" or path.name[0] == "."}, "complete parts may stay"


def list_files() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file()}


def case_id(case: Case) -> str:
    return case.name.replace(" ", "-")
