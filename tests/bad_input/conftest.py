"""Run every test of bad input in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, and undo what a case does to TRAINYARD_WORKERS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
