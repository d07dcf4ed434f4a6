"""Check that checkpoints of ended runs are removed, and never those of a run that may continue."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.files import write_json
from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.tracking.note import NOTE
from pipelines.stage import context
from pipelines.stage.tidy import remove_old_checkpoints


def make_run(runs: Path, name: str, *statuses: str, experiment: str = "a-model") -> Path:
    """Write a run with two fits and their checkpoints; statuses: how each attempt ended, "" if it was killed."""
    folder = runs / name
    describe_run(folder, name, experiment)
    lines = Journal(folder / STAGE_LOG)
    for status in statuses:
        lines.write("begin", stage=name)
        if status:
            lines.write("end", status=status)
    lines.file.close()
    for fit in ("0", "1"):
        checkpoint = folder / "fits" / fit / "checkpoint-00000010"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.safetensors").write_bytes(b"w" * 1000)
        (folder / "fits" / fit / "journal.log").write_text("")
    return folder


def has_checkpoints(folder: Path) -> bool:
    return any(folder.rglob("checkpoint-*"))


def test_only_the_newest_ended_runs_of_a_stage_keep_checkpoints(tmp_path: Path) -> None:
    ended = [make_run(tmp_path, f"finetune-{number:016x}", "FINISHED") for number in range(4)]
    again = make_run(tmp_path, f"finetune-{9:016x}", "KILLED", "FINISHED")
    others = [
        make_run(tmp_path, f"finetune-{4:016x}", "FINISHED", ""),  # killed when it ran again
        make_run(tmp_path, f"finetune-{5:016x}", "KILLED"),
        make_run(tmp_path, f"finetune-{6:016x}", "FAILED"),
        make_run(tmp_path, f"finetune-{7:016x}"),
        make_run(tmp_path, f"pretrain-{0:016x}", "FINISHED"),
        make_run(tmp_path, f"finetune-bert-{0:016x}", "FINISHED"),  # of a recipe
        *(make_run(tmp_path, f"finetune-{number:016x}", "FINISHED", experiment="transfer") for number in (10, 11)),
    ]
    for age, folder in enumerate([again, *ended[::-1]]):  # each older than the one before, whatever its name
        os.utime(folder / STAGE_LOG, (1e9 - age, 1e9 - age))
    removed = remove_old_checkpoints(tmp_path, "finetune", "a-model")
    assert [has_checkpoints(folder) for folder in [again, *ended[::-1]]] == [True, True, False, False, False]
    assert len(removed) == 6
    assert all(has_checkpoints(folder) for folder in others)
    assert all((folder / "fits" / "1" / "journal.log").is_file() for folder in ended), "curves stay"
    assert remove_old_checkpoints(tmp_path, "finetune", "a-model") == []
    assert remove_old_checkpoints(tmp_path, "finetune", "transfer") == [], "the recipe transfer/finetune has only two"
    assert remove_old_checkpoints(tmp_path / "none", "finetune", "a-model") == []


def test_copies_for_the_tracker_are_removed_once_it_has_them(tmp_path: Path) -> None:
    ended = [make_run(tmp_path, f"evaluate-{number:016x}", "FINISHED") for number in range(4)]
    for age, folder in enumerate(ended):
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"w")
        journal.copy_to_run(folder, folder / "model", "ab" * 32)
        os.utime(folder / STAGE_LOG, (1e9 - age, 1e9 - age))
    size = (ended[2] / STAGE_LOG).stat().st_size
    write_json(ended[2] / NOTE, {"offsets": {STAGE_LOG: size}})
    remove_old_checkpoints(tmp_path, "evaluate", "a-model")
    exist = [(folder / journal.COPIES / ("ab" * 8) / "model" / "weights").is_file() for folder in ended]
    assert exist == [True, True, False, True], "the last one was not sent"


@pytest.mark.parametrize("title", [None, "lenet"])
def test_stage_and_recipe_remove_old_checkpoints_at_their_end(
    title: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context.connection, "connect", lambda: None)
    monkeypatch.setattr(context.plan, "plan_workers", lambda parts: SimpleNamespace(workers=1))
    monkeypatch.setattr(context.prestart, "prestart_workers", lambda workers: None)
    monkeypatch.setattr(context, "mirror_unless_shared", lambda *folders: nullcontext())
    monkeypatch.setattr(context, "record_machine_use", lambda lines: nullcontext())
    monkeypatch.setattr(context, "provenance", lambda lock: {})
    folders = []
    for number in range(4):
        with context.stage("pretrain", {"name": "vision"}, {"number": number}, [], title=title) as current:
            (current.folder / "checkpoint-00000010").mkdir()
            folders.append(current.folder)
    assert [has_checkpoints(folder) for folder in folders] == [False, False, True, True]
