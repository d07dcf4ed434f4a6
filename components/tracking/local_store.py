"""The store of a checkout that has no tracker: a SQLite file, and the folder of the runs' files beside it.

MLflow stores absolute addresses of files. They follow the checkout here when it was moved or copied.
"""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from contextlib import closing
from pathlib import Path

from ..errors import Refusal
from ..workspace import repository_root

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
LOCATIONS = (  # (table, column) of MLflow's database with addresses of files
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
SCHEME = "sqlite:///"
QUOTED_SCHEME = "sqlite+pysqlite:///"  # MLflow would make the folder above a SCHEME's file, with quotes in its name
LOCK_SECONDS = 10.0  # to wait for another process that writes into the database


def check_folder(root: Path) -> None:
    """Refuse a folder whose name MLflow reads as another one: it unquotes paths, so models would be lost there."""
    if urllib.parse.unquote(os.fspath(root)) != os.fspath(root):
        raise Refusal(
            f"{root}: MLflow takes % and two digits in a folder's name for another character, and would not find its "
            "files; rename the folder, or set MLFLOW_TRACKING_URI to a server"
        )


def sqlite_address(file: str | Path) -> str:
    """Return the address of a SQLite file, with `?` and `%` in its path quoted as SQLAlchemy expects."""
    path = os.fspath(file)
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return f"{SCHEME if quoted == path else QUOTED_SCHEME}{quoted}"


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite address, relative to the current directory, or None for another kind of address."""
    scheme, separator, path = address.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not separator:
        return None
    return Path(urllib.parse.unquote(path.partition("?")[0]))


def artifacts_address(experiment: str) -> str:
    """Return the address of the folder of an experiment's files in the repository."""
    return (repository_root() / ARTIFACTS / experiment).as_uri()


def is_same_store(old: str, new: str) -> bool:
    """Return whether both addresses name one store: the same address, or a SQLite file that was moved."""
    if old == new:
        return True
    before, now = sqlite_file(old), sqlite_file(new)
    return before is not None and now is not None and before.name == now.name and not before.exists() and now.is_file()


def rebase_artifacts(address: str) -> None:
    """Let MLflow's database in this repository name the folder of files here, after the repository was moved.

    Do nothing for the address of another store. An older folder that still exists is left alone, unless this repository
    is a copy of it and holds the same experiment's files.
    """
    file, root = sqlite_file(address), repository_root()
    if file is None or not file.is_file() or not file.resolve().is_relative_to(root.resolve()):
        return
    here = (root / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as database:
        moved = {place for place in _artifact_folders(database) if place != here and _has_moved(place, root)}
        with database:  # one transaction
            for place in moved:
                for table, column in LOCATIONS:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (f"{here}/", len(place) + 2, len(place) + 1, f"{place}/"),
                    )


def _artifact_folders(database: sqlite3.Connection) -> set[str]:
    """Return the addresses of the folders ARTIFACTS that the experiments name; none before MLflow made its tables."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchall():
        return set()
    rows = database.execute("SELECT artifact_location FROM experiments").fetchall()
    folders = {str(location).rpartition("/")[0] for (location,) in rows}
    return {folder for folder in folders if folder.startswith("file://") and folder.endswith(f"/{ARTIFACTS}")}


def _has_moved(place: str, root: Path) -> bool:
    """Return whether the folder at the address `place` is gone, or a copy of its experiments is below `root`."""
    folder = Path(urllib.parse.unquote(urllib.parse.urlsplit(place).path))
    if not folder.is_dir():
        return True
    return any((root / ARTIFACTS / experiment.name).is_dir() for experiment in folder.iterdir())
