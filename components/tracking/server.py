"""Locate the tracker, build the command of its server, and make clients of it."""

from __future__ import annotations

import logging
import os
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from .. import network
from ..safe_text import CREDENTIALS, hide_credentials
from ..workspace import repository_root

DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the mirror repeats failed requests
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
# Job execution would start five more processes, which judge the answers of language models.
NO_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the address of a SQLite file in the repository if it is not set.

    Since addresses are stored and shown, a user and password in one are moved to MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD. Raise Refusal for a server's address without a host.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root()}/mlflow.db"
    if not address.startswith("http"):
        return address
    bare = hide_credentials(address)
    network.host_and_port(bare)
    if match := CREDENTIALS.match(address):
        user, _, password = match[2].partition(":")
        os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
        os.environ["MLFLOW_TRACKING_URI"] = bare
    return bare


def server_command(
    port: int,
    artifacts: str | Path | None = None,
    host: str = "127.0.0.1",
    workers: int = 1,
    passwords: bool = False,
) -> list[str]:
    """Return the command of MLflow's server, for an environment with `server_settings`.

    artifacts: where it stores files; None: as its environment says (MLFLOW_ARTIFACTS_DESTINATION). passwords: require
    authentication.
    """
    command = ["/usr/bin/env", NO_JOBS, sys.executable, "-m", "mlflow", "server"]
    command += [f"--host={host}", f"--port={port}", f"--workers={workers}"]
    if artifacts is not None:
        command.append(f"--artifacts-destination={artifacts}")
    if passwords:
        command.append("--app-name=basic-auth")
    return command


def server_settings(store: str) -> dict[str, str]:
    """Return the environment of a server whose database is `store`, an address that may hold a password.

    Arguments can be read by every process of the machine.
    """
    return os.environ | {"MLFLOW_BACKEND_STORE_URI": store}


def make_client(uri: str) -> Any:
    """Return MLflow's client of the tracker at `uri`; it gives up soon, and its callers repeat what failed."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(uri)


def is_available(client: Any) -> bool:
    """Return whether the client's tracker answers without an error."""
    try:
        client.search_experiments(max_results=1)
    except Exception:  # of the network, a database or the account
        return False
    return True


def get_or_create_experiment(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment; create it, or restore it if it was deleted."""
    from mlflow.exceptions import MlflowException

    is_local = not uri.startswith("http")
    artifacts = f"file://{repository_root()}/mlartifacts/{urllib.parse.quote(name)}" if is_local else None
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifacts))
        except MlflowException:
            # Another process may have created it first.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    elif experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)
