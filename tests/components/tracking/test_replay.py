"""Each record of a run arrives once at a real MLflow store, after restarts, rewinds and lost notes, too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import Journal
from components.tracking import mirror, server
from tests.components.tracking.sent_runs import points, runs, write_run, write_steps


def test_params_changed_by_a_restart_are_an_attempt_and_every_point_arrives_once(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    for number, rate in enumerate((0.1, 0.2, 0.05)):  # as population-based training does when it resumes
        describe_run(folder, "pretrain", "bench", params={"lr": rate})
        with mirror.Mirror(folder):
            lines = Journal(folder / journal.LOG, position=5 * number)
            for step in range(5 * number + 1, 11 + 5 * number):
                lines.write("metric", step=step, epoch=step / 10, values={"train/loss": rate / step})
    (run,) = runs()
    assert run.data.params == {"lr": "0.1"}
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("attempt")}
    assert tags == {"attempt": "3", "attempt.2.lr": "0.1 -> 0.2", "attempt.3.lr": "0.1 -> 0.05"}
    expected = [(s, r / s) for n, r in enumerate((0.1, 0.2, 0.05)) for s in range(5 * n + 1, 11 + 5 * n)]
    assert points(run, "train/loss") == sorted(expected)
    # Of 60 points, 20 were taken back after they were sent: steps 6 to 10 and 11 to 15, with the epoch.
    assert mirror.audit_metrics(tmp_path / "runs") == (40, 0, 20)


def test_runs_nest_and_carry_every_kind_of_record(store: str, tmp_path: Path) -> None:
    above, below = tmp_path / "runs" / "pipeline-1", tmp_path / "runs" / "pretrain-2"
    describe_run(above, "digits 1", "bench", params={"seed": 0}, tags={"trainyard.stage": "pipeline"})
    write_run(below, parent=above)
    (tmp_path / "picture.txt").write_text("picture")
    driver = Journal(below / journal.STAGE_LOG)
    driver.write("begin", stage="pretrain")
    driver.write("text", text="hello")
    driver.write("artifact", path=str(tmp_path / "picture.txt"), folder="pictures")
    driver.write("artifact", path=str(tmp_path / "gone.txt"), folder="")
    driver.write("tag", name="verdict", value="fine")
    driver.write("end", status="FINISHED")
    with mirror.Mirror(above, below):
        pass
    parent, child = runs()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.run_name == "pretrain"
    assert child.info.status == "FINISHED"
    assert child.data.params == {"lr": "0.1"}
    assert child.data.tags["verdict"] == "fine"
    assert points(child, "train/loss") == [(step, 1 / step) for step in range(1, 31)]
    assert points(child, "epoch/train/loss") == [(epoch, 2 / (10 * epoch)) for epoch in (1, 2, 3)]
    assert points(child, "epoch/validation/accuracy") == [(epoch, epoch / 10) for epoch in (1, 2, 3)]
    assert points(child, "epoch")[9] == (10, 1.0)
    assert child.inputs.dataset_inputs[0].dataset.digest == "ab" * 16
    client = server.make_client(store)
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"log.txt", "pictures"}


def test_killed_anywhere_every_point_arrives_once(store: str, tmp_path: Path) -> None:
    """The note is lost after everything was sent, and everything is sent again."""
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder).write("input", name="letters", digest="cd" * 32, profile={"train": 26})
    for _ in range(2):
        mirror.Mirror(folder).send()
        shutil.copy(folder / "mirror.json", tmp_path / "note")
        (folder / "mirror.json").unlink()
    (run,) = runs()
    assert len(points(run, "train/loss")) == 30
    assert len(points(run, "train/examples_per_second")) == 30
    data = {data.dataset.name: data.dataset.digest for data in run.inputs.dataset_inputs}
    assert data == {"digits": "ab" * 16, "letters": "cd" * 16}
    assert len(run.inputs.dataset_inputs) == 2


def test_a_run_resumed_from_a_checkpoint_duplicates_no_point(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder)
    mirror.Mirror(folder).send()
    write_steps(Journal(folder / journal.LOG, position=21), range(11, 36))
    mirror.Mirror(folder).send()
    for name in ("train/loss", "train/examples_per_second"):
        assert [step for step, _ in points(runs()[0], name)] == list(range(1, 36)), name
    assert [step for step, _ in points(runs()[0], "epoch/validation/accuracy")] == [1, 2, 3]
    assert mirror.audit_metrics(folder)[1:] == (0, 0)
    assert superseded(runs()[0]) == []


def superseded(run: Any) -> list[str]:
    """Return the run's tags about superseded points."""
    return [value for name, value in sorted(run.data.tags.items()) if name.startswith("superseded.")]


def test_points_that_a_rewind_revokes_are_audited_and_marked(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder, steps=8)
    mirror.Mirror(folder).send()
    for attempt in (1.5, 2.0):  # two restarts from step 5, each with other values up to step 7
        lines = Journal(folder / journal.LOG, position=10)
        for step in (6, 7):
            lines.write("metric", step=step, epoch=step / 10, values={"train/loss": attempt})
        mirror.Mirror(folder).send()
    run = runs()[0]
    assert [step for step, _ in points(run, "train/loss")] == [1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7, 8]
    # steps 1 to 5 with loss, epoch and speed, steps 6 and 7 without the speed; step 8 stands no more
    assert mirror.audit_metrics(folder) == (19, 0, 13)
    first, second = superseded(run)
    assert "steps 6 to 8 were run again and came out differently" in first
    assert "(9 points up to " in first
    assert "steps 6 to 7 " in second
    assert "(4 points up to " in second
    (folder / "mirror.json").unlink()
    mirror.Mirror(folder).send()
    assert mirror.audit_metrics(folder) == (19, 0, 13), "sending all again adds no point"
    assert superseded(runs()[0]) == [first, second]


def test_points_revoked_before_they_were_sent_never_arrive(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder, steps=8)
    lines = Journal(folder / journal.LOG, position=10)
    lines.write_resume(step=5, before=["1 thread on A"], now=["2 threads on A"])
    for step in (6, 7):
        lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1.5})
    assert mirror.Mirror(folder).send() == 16 + 1 + 1 + 2
    run = runs()[0]
    assert [step for step, _ in points(run, "train/loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert mirror.audit_metrics(folder) == (19, 0, 0)
    assert superseded(run) == []
    assert run.data.tags["resumed.5"] == "1 thread on A -> 2 threads on A"


def test_an_undefined_value_is_one_point(store: str, tmp_path: Path) -> None:
    """Send a score that is no number, and again after the note was lost: NaN is unequal to itself."""
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder, steps=2)
    Journal(folder / journal.LOG).write("metric", step=3, epoch=0.3, values={"train/share": float("nan")})
    for _ in range(2):
        mirror.Mirror(folder).send()
        assert [step for step, _ in points(runs()[0], "train/share")] == [3]
        lost, surplus = mirror.audit_metrics(folder)[1:]
        assert (lost, surplus) == (0, 0)
        (folder / "mirror.json").unlink()


def test_nothing_new_sends_nothing(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain-1"
    write_run(folder)
    assert mirror.Mirror(folder).send() > 60
    assert mirror.Mirror(folder).send() == 0
