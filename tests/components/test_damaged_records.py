"""Damaged records of runs are one line: what can be repeated is repeated, otherwise place and remedy are named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from components.errors import Refusal
from components.files import read_object, write_json
from components.runs.description import describe_run, read_description
from components.search.attempt import mark_killed_for_memory
from components.search.trials import Trial, read_trial
from components.tracking.note import Note, read_note
from components.training.exported import class_names

DAMAGE = [b"", b"{", b"[1]", b"7", b"null", b"\xff\xfe", b"[" * 99999, b'{"a": 1}', b'{"a": ' + b"9" * 5000 + b"}"]


def swap(record: dict[str, Any]) -> list[bytes]:
    """Return the record with each field in turn of another type."""
    return [json.dumps(record | {name: [value, None]}).encode() for name, value in record.items()]


def check_all(file: Path, contents: list[bytes], read: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """Check that `read` returns None and reports each damage in one line."""
    for content in contents:
        file.write_bytes(content)
        caplog.clear()
        assert read() is None, content[:40]
        (line,) = caplog.messages
        assert str(file) in line
        assert "\n" not in line
    file.unlink()
    os.mkfifo(file)
    assert read() is None


def test_a_damaged_trial_is_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = asdict(Trial("a", 1, {"lr": 0.1}, [{"loss": 1.0}, {"loss": 0.5}], finished=True))
    write_json(tmp_path / "trial.json", record)
    assert asdict(read_trial(tmp_path)) == record
    fields = {name: value for name, value in record.items() if name not in ("finished", "cumulative")}
    contents = [json.dumps(record | json.loads(changed)).encode() for changed in swap(fields)]
    check_all(tmp_path / "trial.json", DAMAGE + contents, lambda: read_trial(tmp_path), caplog)


def test_a_damaged_note_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note = Note("uri", "id", {"journal.log": 7}, 1, "run", True)
    note.write(tmp_path)
    assert read_note(tmp_path) == note
    check_all(tmp_path / "mirror.json", DAMAGE + swap(asdict(note)), lambda: read_note(tmp_path), caplog)


def test_a_damaged_marker_counts_as_none(tmp_path: Path) -> None:
    for content in DAMAGE:
        (tmp_path / "running.json").write_bytes(content)
        mark_killed_for_memory(tmp_path)
        assert (tmp_path / "running.json").read_bytes() == content


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_description_is_refused_and_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"run\.json: damaged \(.*\); run the stage again"):
        read_description(tmp_path)
    describe_run(tmp_path, "name", "experiment")
    assert read_description(tmp_path)["name"] == "name"
    assert "described again" in caplog.messages[0]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_model_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"model\.json: damaged \(.*\); run the stage that writes it"):
        class_names(tmp_path)


def test_a_json_file_has_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ValueError, match="more than 64 MB"):
        read_object(tmp_path / "a.json")
