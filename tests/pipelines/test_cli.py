"""How the command ends, whatever its threads are at."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return None", 0, "atexit"),
        ("return 3", 3, "atexit"),
        ("raise Refusal('a: wrong; put it right')", 2, "trainyard: a: wrong; put it right"),
        ("raise KeyboardInterrupt", 130, "goes on from the last checkpoint"),
        ("raise ZeroDivisionError('a mistake')", 1, "ZeroDivisionError: a mistake"),
    ],
)
def test_it_ends_in_order_though_a_thread_is_inside_foreign_code(body: str, code: int, says: str) -> None:
    """The thread sorts inside NumPy's C++ all the time, where an orderly exit may abort."""
    program = f"""
        import atexit, sys, threading, time
        import numpy as np
        from components.refusal import Refusal
        from pipelines import cli, summary
        atexit.register(lambda: print("atexit"))
        def sort():
            while True:
                np.sort(np.random.rand(1_000_000))
        threading.Thread(target=sort, daemon=True).start()
        time.sleep(0.2)
        def main():
            {body}
        summary.main = main
        sys.argv = ["trainyard", "summary"]
        cli.run()
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert "atexit" in done.stdout
