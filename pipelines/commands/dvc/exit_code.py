"""Pass a stage's exit code on to the command that started dvc, whose own exit code is always 255."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TRAINYARD_ENDED"  # environment variable that names the file for the code


def write_exit_code(code: int) -> None:
    """Write the code of a failed stage into the file that VARIABLE names, if it is set."""
    if code and VARIABLE in os.environ:
        Path(os.environ[VARIABLE]).write_text(str(code))


def read_exit_code(file: Path, default: int) -> int:
    """Return the code that a stage wrote into `file`, or `default` if no stage did."""
    return int(file.read_text()) if file.is_file() else default
