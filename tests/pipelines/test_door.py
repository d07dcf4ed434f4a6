"""The exit code of a command, whatever its threads do at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return None", 0, "atexit"),
        ("return 3", 3, "atexit"),
        ("raise Refusal('a: wrong; put it right')", 2, "trainyard: a: wrong; put it right"),
        ("raise KeyboardInterrupt", 130, "saved progress is kept"),
        ("raise ZeroDivisionError('a mistake')", 1, "ZeroDivisionError: a mistake"),
    ],
)
def test_it_ends_in_order_while_threads_run_foreign_code(body: str, code: int, says: str) -> None:
    """With threads inside OpenCV's C++ code, `sys.exit` would end in SIGABRT."""
    program = f"""
        import atexit, sys, threading, time
        import cv2
        import numpy as np
        from components.errors import Refusal
        from pipelines import door
        from pipelines.commands import summary
        atexit.register(lambda: print("atexit"))
        def blur():
            while True:
                cv2.GaussianBlur(np.zeros((400, 400), np.float32), (31, 31), 5)
        cv2.setNumThreads(1)
        for _ in range(4):
            threading.Thread(target=blur, daemon=True).start()
        time.sleep(0.3)
        def main():
            {body}
        summary.main = main
        sys.argv = ["trainyard", "summary"]
        door.run()
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert "atexit" in done.stdout


def test_a_reader_who_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    lines = [f"{'ab'[i % 2]},the text {i % 3000}" for i in range(6000)]  # as many odd things, in a file
    (tmp_path / "a.csv").write_text("\n".join(["label,text", *lines]))
    command = [sys.executable, "-c", "from pipelines.door import run; run()", "inspect", str(tmp_path / "a.csv")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 141


def test_a_python_without_the_locked_packages_is_named_with_the_remedy() -> None:
    """Such as that of a shell in which the environment is not activated."""
    bare = [sys.executable, "-S", "-m", "pipelines", "prepare"]
    ended = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert re.fullmatch(
        r"trainyard: \S+: '\w+' is not installed for this Python; run `make env`, then `source .venv/bin/activate`\n",
        ended.stderr,
    )
