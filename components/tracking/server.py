"""Locate the tracker, build the command of its server, and make clients of it."""

from __future__ import annotations

import http.client
import logging
import os
import re
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from .. import network
from ..errors import first_line
from ..safe_text import CREDENTIALS, hide_credentials
from ..workspace import repository_root
from . import local_store

PORT = 5000  # by default of `trainyard ui` and `trainyard tracker`
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the mirror repeats failed requests
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
STATUS = re.compile(r"failed with error code (\d{3}) != \d+\. Response body: '(.*)", re.DOTALL)
CAUSE = re.compile(r"Caused by \w+\(['\"]([^'\"]+)")
# Job execution would start five more processes, which judge the answers of language models.
NO_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the address of a SQLite file in the repository if it is not set.

    Since addresses are stored and shown, a user and password in one are moved to MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD. Raise Refusal for a server's address without a host,
    and without a server for a folder in which MLflow would not find its files.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or local_store.sqlite_address(
        repository_root() / local_store.DATABASE
    )
    if not address.startswith("http"):
        local_store.check_folder(repository_root())
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
    local_store.rebase_artifacts(uri)
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


def explain_failure(error: BaseException) -> str:
    """Return in one line why a request failed: the status and the server's message, or the system's reason.

    MLflow and the libraries below it put the reason last, behind addresses and names of classes.
    """
    causes = [error]
    while (deeper := causes[-1].__cause__ or causes[-1].__context__) is not None and deeper not in causes:
        causes.append(deeper)
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror and not hasattr(cause, "request"):
            return f"{cause.strerror}" + (f" ({cause.filename})" if cause.filename else "")
    text = hide_credentials(str(error))
    if match := STATUS.search(text):
        phrase = http.client.responses.get(int(match[1]), "")
        body = match[2].strip().strip("'")
        reason = "" if not body or body.startswith("<") else f" ({first_line(ValueError(body))})"
        return f"{match[1]} {phrase}{reason}"
    if match := CAUSE.search(text):
        return match[1]
    if isinstance(getattr(error, "json", None), dict):  # MLflow's RestException
        return f"{error.get_http_status_code()} {first_line(error)}"  # type: ignore[attr-defined]
    lines = [line for line in text.splitlines() if line.strip()]
    is_heading = len(lines) > 1 and lines[0].rstrip().endswith(":")
    return first_line(ValueError(lines[-1])) if is_heading else hide_credentials(first_line(error))


def get_or_create_experiment(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment; create it, or restore it if it was deleted."""
    from mlflow.exceptions import MlflowException

    is_local = not uri.startswith("http")
    artifacts = local_store.artifacts_address(name) if is_local else None
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
