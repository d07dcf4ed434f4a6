"""Commands work without a home, with one that cannot be written, and for a user id without a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components import home

ROOT = Path(__file__).parents[2]
PROGRAM = """
import getpass, os
from pathlib import Path
from components.home import ensure_home
ensure_home()
print(getpass.getuser(), Path.home(), os.access(Path.home(), os.W_OK))
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text("name: digits\n")
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", *home.CACHES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("value", ["/", "/no/such/home"])
def test_a_home_that_is_none_is_replaced_by_a_folder_of_the_checkout(
    value: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", value)
    home.ensure_home()
    assert Path.home() == checkout / ".trainyard/home"
    assert Path.home().stat().st_mode & 0o777 == 0o700


def test_a_home_that_can_only_be_read_keeps_its_files_and_the_caches_move(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")  # where not even root can write
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc")
    home.ensure_home()
    assert Path.home() == Path("/proc")
    assert os.environ["XDG_CACHE_HOME"] == str(checkout / ".trainyard/cache")
    assert os.environ["MPLCONFIGDIR"] == str(checkout / ".trainyard/cache/matplotlib")


def test_a_home_of_ones_own_is_left_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkout))
    before = dict(os.environ)
    home.ensure_home()
    assert os.environ == before
    assert not (checkout / ".trainyard").exists()


def test_outside_a_checkout_nothing_is_left(tmp_path: Path) -> None:
    done = run_nameless(tmp_path, PROGRAM)
    name, place, can_write = done.split()
    assert (name, can_write) == ("54321", "True")
    assert not Path(place).exists()
    assert list(tmp_path.iterdir()) == []


def test_commands_work_for_a_user_id_without_a_name_and_home(checkout: Path) -> None:
    """The arbitrary ids of containers; MLflow and Ray's token would each raise an error."""
    (checkout / ".dvc").mkdir()
    code = "from pipelines import door; print([door.main(arguments) for arguments in %r])"
    commands = [["schedule", "--to=cron"], ["schedule", "--to=systemd"], ["verify"]]
    output = run_nameless(checkout, code % commands)
    assert "[0, 2, 2]" in output
    assert "schedule: the user id 54321 has no name here; name the user: --user NAME" in output
    assert "digits has no version yet" in output
    assert "Traceback" not in output


def run_nameless(folder: Path, code: str) -> str:
    """Run a Python program as a user id without a name and without HOME, and return what it prints."""
    missing = ("HOME", "USER", "LOGNAME", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in missing} | {"PYTHONPATH": str(ROOT)}
    command = ["unshare", "--user", "--map-user=54321", "--map-group=54321", sys.executable, "-c", code]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine (util-linux)")
    if "unshare" in done.stderr:
        pytest.skip("this machine permits no user namespaces")
    return done.stdout + done.stderr
