"""Exit codes of `trainyard`, and how a stage's passes dvc, whose own exit code is always 255."""

from __future__ import annotations

import os
from pathlib import Path

BAD_INPUT = 2
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130
VARIABLE = "TRAINYARD_ENDED"  # environment variable that names the file for a stage's code


def write_exit_code(code: int) -> None:
    """Write the code of a failed stage into the file that VARIABLE names, if it is set."""
    if code and VARIABLE in os.environ:
        Path(os.environ[VARIABLE]).write_text(str(code))


def read_exit_code(file: Path, default: int) -> int:
    """Return the code that a stage wrote into `file`, or `default` if no stage did."""
    return int(file.read_text()) if file.is_file() else default
