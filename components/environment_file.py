"""Read files of KEY=VALUE lines in the one way in which systemd, Docker and Kubernetes agree. Nothing is executed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import Refusal

VARIABLE = "TRAINYARD_ENV_FILE"  # names a file that every command reads first, if it exists
MAX_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name_environment_file(name: str) -> None:
    """Let this process and its children read the file `name` first; raise Refusal if there is no such file."""
    if not is_file(Path(name)):
        raise Refusal(f"--env-file {name}: no such file; write it, with lines NAME=VALUE and mode 0600")
    os.environ[VARIABLE] = str(Path(name).absolute())


def is_file(path: Path) -> bool:
    """Return whether there is such a file, or may be: a folder that this user cannot enter says no more."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def load_environment_file() -> None:
    """Set the variables of the file that VARIABLE names; variables that are set already keep their values."""
    if not (name := os.environ.get(VARIABLE)):
        return
    for key, value in read_environment_file(Path(name)).items():
        os.environ.setdefault(key, value)


def read_environment_file(path: Path) -> dict[str, str]:
    """Return {name: value}, empty if there is no such file.

    A value is what stands between `=` and the end of the line, as it is; `$`, `&` and blanks inside are ordinary.
    Raise Refusal, without quoting a value, for an unreadable file and for what others would read in another way: quotes
    or blanks at an end of the value, a backslash, a control character, a line that is not NAME=VALUE.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}); make it readable for this user alone") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Refusal(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    if len(content) > MAX_BYTES:
        raise Refusal(f"{path}: is larger than {MAX_BYTES >> 20} MB; it should hold lines NAME=VALUE")
    values = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise Refusal(
                f"{path}:{number}: is not NAME=VALUE; write it so, without `export` and blanks around the `=`"
            )
        if fault := _find_fault(value):
            raise Refusal(f"{path}:{number}: {name} has {fault}, which programs read differently; choose another")
        values[name] = value
    return values


def _find_fault(value: str) -> str | None:
    if value != value.strip():
        return "a blank at an end"
    if value[:1] in ("'", '"'):
        return "a quote at its begin"
    if "\\" in value:
        return "a backslash"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        return "a control character"
    return None
