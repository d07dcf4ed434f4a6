"""Check that one process at a time runs a stage."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

from components.runs import journal

ROOT = Path(__file__).parents[3]


def start_process(folder: Path, code: str) -> subprocess.Popen:
    """Start a Python process in `folder` that can use `hold_lock` and `time`."""
    code = "import time\nfrom pipelines.stage.lock import hold_lock\n" + textwrap.dedent(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, **pipes)


def test_stage_waits_for_the_process_that_still_runs_it(tmp_path: Path) -> None:
    first = start_process(
        tmp_path, "with hold_lock('tune'):\n print('in', flush=True)\n time.sleep(3)\n print(time.time(), flush=True)"
    )
    assert first.stdout.readline() == "in\n"
    second = start_process(tmp_path, "with hold_lock('tune'):\n print(time.time(), flush=True)")
    other = start_process(tmp_path, "with hold_lock('pretrain'):\n print(time.time(), flush=True)")
    output, _ = second.communicate(timeout=300)
    assert f"tune: process {first.pid} on {platform.node()} is at work on it; waiting until it ends" in output
    assert "kill" not in output, "whoever reads this must not end the other's work"
    ended = float(first.communicate(timeout=300)[0])
    assert float(output.splitlines()[-1]) >= ended
    assert float(other.communicate(timeout=300)[0]) < ended, "another stage need not wait"


def test_killed_stage_leaves_no_lock(tmp_path: Path) -> None:
    first = start_process(tmp_path, "with hold_lock('tune'):\n print('in', flush=True)\n time.sleep(60)")
    assert first.stdout.readline() == "in\n"
    first.kill()
    first.communicate(timeout=300)
    output, _ = start_process(tmp_path, "with hold_lock('tune'):\n print('mine')").communicate(timeout=300)
    assert output == "mine\n"


STAGE = """
import sys
from contextlib import nullcontext
from types import SimpleNamespace

from pipelines.stage import context

context.connection.connect = lambda: None
context.plan.plan_workers = lambda parts: SimpleNamespace(workers=1)
context.prestart.prestart_workers = lambda workers: None
context.mirror_unless_shared = lambda *folders: nullcontext()
family, value, prepared = sys.argv[1:]
with context.stage("fit", {"name": family}, {"value": value}, [], title="lenet") as run:
    print("inside", flush=True)
    input()
    import torch

    from components.recipes import recipe
    from components.storage.feed import Feed
    from components.storage.store import Store
    from components.training import engine
    from components.training.task import Spec, Task

    torch.set_num_threads(1)
    task = recipe.build(
        {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}, Task
    )
    spec = Spec({"image": (16, 16, 1), "label": ()}, tuple("0123456789"), {"mean": [0.3], "std": [0.3]})
    options = {"epochs": 2, "batch": 50, "log_every": 1, "checkpoint_seconds": 0.001}
    outcome = engine.fit(task, spec, Feed(Store(prepared).split("train")), None, run.folder, **options)
    print(outcome.state.step, flush=True)
"""


def start_stage(copy: Path, prepared: Path, family: str = "vision", value: str = "1") -> subprocess.Popen:
    """Start a stage in a copy of the repository; inside, it prints a line and waits for one before it trains."""
    copy.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STAGE, family, value, str(prepared)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=copy, env=environment, **pipes)


def test_two_queued_experiments_never_write_one_run_folder(digits: Path, tmp_path: Path) -> None:
    """Run the same stage in two copies as `dvc queue start -j 2` does; the second finds the work done."""
    copies = [tmp_path / ".dvc" / "tmp" / "exps" / name for name in ("first", "second")]
    first = start_stage(copies[0], digits / "prepared")
    assert first.stdout.readline() == "inside\n"
    second = start_stage(copies[1], digits / "prepared")
    line = second.stdout.readline()
    assert f"process {first.pid} on {platform.node()} is at work on it; waiting" in line
    assert first.communicate("\n", timeout=300)[0] == "20\n"
    assert second.communicate("\n", timeout=300)[0] == "inside\n20\n"
    (folder,) = (tmp_path / ".trainyard" / "runs").glob("lenet-*")
    lines = journal.Tail(folder / journal.LOG).read_new()
    steps = Counter(record.payload["step"] for record in lines if record.kind == "progress")
    assert steps == dict.fromkeys(range(1, 21), 1), "each step is written once, and nothing is rewound"
    assert len(lines) == 40
    statuses = [r.payload.get("status") for r in journal.read_records(folder / journal.STAGE_LOG, "begin", "end")]
    assert statuses == [None, "FINISHED", None, "FINISHED"]


def test_recipes_of_one_name_in_two_families_run_at_the_same_time(digits: Path, tmp_path: Path) -> None:
    stages = [start_stage(tmp_path, digits / "prepared", *recipe) for recipe in (("vision", "1"), ("fashion", "2"))]
    others = [start_stage(tmp_path, digits / "prepared", "language", value) for value in "34"]
    assert [stage.stdout.readline() for stage in stages] == ["inside\n"] * 2
    lines = [stage.stdout.readline() for stage in others]
    assert sum("language+lenet: process" in line for line in lines) == 1, "they would write the same outputs"
    for stage in (*stages, *others):
        stage.kill()
        stage.communicate()
