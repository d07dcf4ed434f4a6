"""The tracker: where it is, how its server is started, a client of it."""

from __future__ import annotations

import logging
import os
import re
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from .. import network
from ..workspace import repository_root

DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we try again ourselves
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
PLAIN = r"(?:\[[^\]\s]*\]|[^:@/?#\s]*)(?::\d{1,5})?(?=[/?#\s]|$)"  # HOST or HOST:PORT, with no user before it
CREDENTIALS = re.compile(rf"(\w+://)(?!{PLAIN})(\S*)@")  # up to the last @: a password may hold @ and /
NO_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"  # five processes more, which judge language models' answers


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the repository; refuses a server's address without a host.

    A user and password in the address move to MLFLOW_TRACKING_USERNAME and _PASSWORD: addresses are noted and shown.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root()}/mlflow.db"
    if not given.startswith("http"):
        return given
    bare = hide_credentials(given)
    network.host_and_port(bare)
    if found := CREDENTIALS.match(given):
        user, _, password = found[2].partition(":")
        os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
        os.environ["MLFLOW_TRACKING_URI"] = bare
    return bare


def server_command(
    port: int,
    store: str | None = None,
    artifacts: str | Path | None = None,
    host: str = "127.0.0.1",
    workers: int = 1,
    passwords: bool = False,
) -> list[str]:
    """The command of MLflow's server: store, a database's address; artifacts, where it keeps files.

    What is left out, the server reads from its environment (MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION).
    """
    command = ["/usr/bin/env", NO_JOBS, sys.executable, "-m", "mlflow", "server"]
    command += [f"--host={host}", f"--port={port}", f"--workers={workers}"]
    command += [f"--backend-store-uri={store}"] if store is not None else []
    command += [f"--artifacts-destination={artifacts}"] if artifacts is not None else []
    return [*command, *(["--app-name=basic-auth"] if passwords else [])]


def make_client(uri: str) -> Any:
    """MLflow's client of the tracker at `uri`, which gives up soon: who calls tries again."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(uri)


def is_available(at: Any) -> bool:
    """Whether the tracker answers its client `at`, with anything but an error."""
    try:
        at.search_experiments(max_results=1)
    except Exception:  # of the network, of a database, of the account
        return False
    return True


def get_or_create_experiment(at: Any, name: str, uri: str) -> str:
    """The experiment's id, made or brought back from the bin if need be; another process may be quicker."""
    from mlflow.exceptions import MlflowException

    local = not uri.startswith("http")
    place = f"file://{repository_root()}/mlartifacts/{urllib.parse.quote(name)}" if local else None
    found = at.get_experiment_by_name(name)
    if found is None:
        try:
            return str(at.create_experiment(name, place))
        except MlflowException:
            found = at.get_experiment_by_name(name)
            if found is None:
                raise
    elif found.lifecycle_stage == "deleted":
        at.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def hide_credentials(text: str) -> str:
    """A tracker's address, or words that hold one, without user and password."""
    return CREDENTIALS.sub(r"\1", text)
