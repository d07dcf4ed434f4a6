"""Environment files are read in one way, and what others would read differently is refused without quoting it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from components.environment_file import VARIABLE, load_environment_file, read_environment_file
from components.errors import Refusal
from pipelines import door

SECRET = "canary-77"
REFUSED = {
    "quoted": f"A='{SECRET}'\n",
    "quoted twice": f'A="{SECRET}"\n',
    "a blank at its end": f"A={SECRET} \n",
    "a blank at its begin": f"A= {SECRET}\n",
    "a line break of another system": f"A={SECRET}\r\n",
    "escaped": f"A=\\{SECRET}\n",
    "a control character": f"A={SECRET}\x1b\n",
    "exported": f"export A={SECRET}\n",
    "blanks around": f"A = {SECRET}\n",
    "a command": f"echo {SECRET}\n",
    "a name with a dash": f"A-B={SECRET}\n",
    "not UTF-8": f"A={SECRET}\udcff\n",
}


def write(folder: Path, text: str) -> Path:
    file = folder / "environment"
    file.write_bytes(text.encode(errors="surrogateescape"))
    return file


def test_values_are_taken_as_they_are(tmp_path: Path) -> None:
    values = {
        "A": "a&b|c;d",
        "B_1": "$HOME ${X} $(true) `true`",
        "C": "x=y==",
        "D": 'it\'s "so"',
        "E": "",
        "F": "ä#b !%",
    }
    file = write(tmp_path, "# comment\n\n" + "".join(f"{name}={value}\n" for name, value in values.items()))
    assert read_environment_file(file) == values


@pytest.mark.parametrize("case", REFUSED)
def test_what_programs_read_differently_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        read_environment_file(write(tmp_path, REFUSED[case]))
    assert SECRET not in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/environment")


def test_a_command_reads_the_file_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, str(write(tmp_path, "TRAINYARD_TEST_A=1\nTRAINYARD_TEST_B=2\n")))
    monkeypatch.setenv("TRAINYARD_TEST_A", "before")
    monkeypatch.setenv("TRAINYARD_TEST_B", "")
    monkeypatch.delenv("TRAINYARD_TEST_B")
    load_environment_file()
    assert (os.environ["TRAINYARD_TEST_A"], os.environ["TRAINYARD_TEST_B"]) == ("before", "2")
    monkeypatch.setenv(VARIABLE, str(write(tmp_path, REFUSED["quoted"])))
    assert door.main(["summary"]) == 2
    assert "environment:1: A has a quote at its begin" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    load_environment_file()


def test_the_option_env_file_reads_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "/of/another")
    monkeypatch.setenv("TRAINYARD_TEST_C", "")
    monkeypatch.delenv("TRAINYARD_TEST_C")
    file = write(tmp_path, "TRAINYARD_TEST_C=a&b $HOME c\n")
    assert door.main(["--env-file", file.name, "sync"]) == 0
    assert os.environ["TRAINYARD_TEST_C"] == "a&b $HOME c"
    assert os.environ[VARIABLE] == str(file), "for the stages that dvc starts"
    assert door.main(["--env-file", "absent", "sync"]) == 2
    assert "--env-file absent: no such file" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() != 0, reason="root makes a file that others cannot read")
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    file = Path("/tmp") / f"trainyard-unreadable-{os.getpid()}"
    file.write_text("A=1\n")
    file.chmod(0o600)
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom components.environment_file import *\n"
    code += "try: read_environment_file(Path(sys.argv[2]))\nexcept Refusal as refusal: print(refusal)"
    root = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(
            ["/usr/bin/env", "python3", "-c", code, root, str(file)],
            user=65534,
            cwd="/",
            capture_output=True,
            text=True,
        )
    finally:
        file.unlink()
    if "Traceback" in done.stderr:
        pytest.skip("another user cannot read this checkout")
    assert "cannot be read (Permission denied)" in done.stdout
