"""The command that serves MLflow's pages ends as its last line says."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import network
from components.tracking.local_store import sqlite_address
from pipelines import door
from pipelines.commands import ui


def interrupt() -> int:
    """Stand for a server that runs until Ctrl-C."""
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_server_without_mentioning_progress(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_address(empty_store))
    Path("params.yaml").write_text("name: digits\n")
    monkeypatch.setattr(ui, "process_group", lambda *_, **__: nullcontext(SimpleNamespace(wait=interrupt)))
    assert door.main(["ui", f"--port={network.free_port()}"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[-2:] == ["Ctrl-C stops the server", "the server has stopped"]
    assert "progress" not in output.err
