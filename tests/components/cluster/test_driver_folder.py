"""Test what workers make of the driver's folder, on machines that share it and on others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from components.cluster.driver_folder import DriverFolder, enter_folder, is_shared, marked_folder, move_paths
from components.errors import Refusal
from pipelines.workers.records import FitJob


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DriverFolder:
    """Return the folder of a driver that waits for workers, seen from a directory elsewhere."""
    (tmp_path / "yard").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "yard")
    with marked_folder(Path("ray")) as folder:
        monkeypatch.chdir(tmp_path)
        return replace(folder, mark=str(tmp_path / "mark"))


def test_a_machine_that_sees_the_mark_works_in_the_drivers_directory(driver: DriverFolder) -> None:
    Path(driver.mark).touch()
    assert enter_folder(driver) is None
    assert str(Path.cwd()) == driver.path
    with pytest.raises(Refusal, match="missing: not on every machine of the cluster; run from a folder that they"):
        enter_folder(replace(driver, path=f"{driver.path}/missing"))


def test_another_machine_works_in_a_private_folder_of_its_cache(driver: DriverFolder, tmp_path: Path) -> None:
    local = enter_folder(driver)
    assert local == Path.cwd()
    assert local.is_relative_to(tmp_path / "cache" / "trainyard" / "apart" / os.uname().nodename)
    assert local.stat().st_mode & 0o777 == 0o700
    assert enter_folder(driver) == local, "what is there serves again"
    assert enter_folder(replace(driver, host="elsewhere")) != local, "of another machine's folder with this name"


def test_a_temporary_copy_of_a_repository_is_inside_what_stands_for_it(driver: DriverFolder) -> None:
    local = enter_folder(replace(driver, path=f"{driver.base}/.dvc/tmp/exps/x"))
    assert local is not None
    assert Path.cwd() == local / ".dvc/tmp/exps/x"


def test_the_mark_goes_with_the_command(tmp_path: Path) -> None:
    with marked_folder(tmp_path / "ray") as folder:
        assert is_shared(folder)
    assert not is_shared(folder)
    assert not [*(tmp_path / "ray").iterdir()]


def test_paths_in_arguments_are_moved_wherever_they_are() -> None:
    job = FitJob({"task": {"start": "/yard/models/a", "use": "tasks.x"}, "fit": {"epochs": 3}}, "/yard/run", "model", 0)
    moved = FitJob({"task": {"start": "/own/models/a", "use": "tasks.x"}, "fit": {"epochs": 3}}, "/own/run", "model", 0)
    arguments = ([job], {"/yard/data": ("/yard", "/yardstick", None, 1.5)}, Path("/yard/x"))
    assert move_paths(arguments, "/yard", "/own") == (
        [moved],
        {"/own/data": ("/own", "/yardstick", None, 1.5)},
        Path("/own/x"),
    )
