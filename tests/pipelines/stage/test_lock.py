"""Check that one process at a time runs a stage."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

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
    output, _ = second.communicate(timeout=60)
    assert f"process {first.pid} still runs this stage" in output
    ended = float(first.communicate(timeout=60)[0])
    assert float(output.splitlines()[-1]) >= ended
    assert float(other.communicate(timeout=60)[0]) < ended, "another stage need not wait"


def test_killed_stage_leaves_no_lock(tmp_path: Path) -> None:
    first = start_process(tmp_path, "with hold_lock('tune'):\n print('in', flush=True)\n time.sleep(60)")
    assert first.stdout.readline() == "in\n"
    first.kill()
    first.communicate(timeout=60)
    output, _ = start_process(tmp_path, "with hold_lock('tune'):\n print('mine')").communicate(timeout=60)
    assert output == "mine\n"
