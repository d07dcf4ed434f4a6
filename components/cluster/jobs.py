"""Submit a command to a Ray cluster through its Jobs API, print its log, and stop it on an interrupt."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from typing import Any

from .. import network
from ..errors import Refusal, TryLater, first_line
from ..safe_text import CREDENTIALS
from . import ownership
from .connection import RAY_SETTINGS, START_TIMEOUT
from .tokens import authenticate

# The settings that a job inherits. Its environment is shown in the dashboard, so they hold no secret.
SETTINGS = ("TRAINYARD_WORKERS", "TRAINYARD_THREADS", "TRAINYARD_BY", "TRAINYARD_ALLOW")
DEFAULT_PORT = 8265  # of Ray's dashboard
DEFAULT_ADDRESS = f"http://127.0.0.1:{DEFAULT_PORT}"
API_ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's name for it
POLL_SECONDS = 1.0  # between two checks of a job whose log has ended
LOST_SECONDS = 60.0  # without an answer, after which a cluster counts as gone


def check_dashboard(address: str) -> None:
    """Refuse what is not an address of a dashboard, and one with a password: files and lists of processes show it."""
    try:
        is_address = address.startswith(("http://", "https://")) and bool(network.host_and_port(address))
    except Refusal:
        is_address = False
    if not is_address:
        raise Refusal(f"{address}: is not the address of a cluster's dashboard; use one such as http://HOST:8265")
    if CREDENTIALS.match(address):
        raise Refusal(f"{address}: holds a user or a password; a cluster takes a token instead (RAY_AUTH_TOKEN)")


def job_command(folder: str, python: str, arguments: list[str]) -> str:
    """Return the shell command that runs a trainyard command in the checkout that all machines share."""
    return f"cd {shlex.quote(folder)} && exec {shlex.quote(python)} -m pipelines {shlex.join(arguments)}"


def submit_job(address: str, command: str) -> int:
    """Run `command` on the head of the cluster with the dashboard `address`, print its log and return its exit code.

    An interrupt stops the job. SETTINGS are passed on to it. Passwords are not, nor an address that serves as one
    (TRAINYARD_WEBHOOK), because the dashboard shows jobs: the cluster's own environment holds them.
    """
    if address == DEFAULT_ADDRESS and ownership.listener_users(DEFAULT_PORT) - {0, os.geteuid()}:
        raise Refusal(f"{address}: a process of another user listens there; name your cluster's dashboard: --address")
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ[API_ADDRESS] = address  # otherwise RAY_ADDRESS takes precedence over the argument
    authenticate()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    try:
        client = JobSubmissionClient(address)
        job = _start_job(client, command, settings)
    except AuthenticationError:
        raise Refusal(
            f"{address} refuses our token: RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH must hold the cluster's"
        ) from None
    except ConnectionError:
        raise TryLater(f"the dashboard {address} does not answer") from None
    except (OSError, RuntimeError, LookupError, ValueError) as error:  # what answers may be another server
        raise Refusal(f"{address}: no Jobs API of a Ray cluster answers there ({first_line(error)})") from None
    print(f"job {job} at {address}", flush=True)
    try:
        return follow_job(client, job)
    except KeyboardInterrupt:
        try:
            client.stop_job(job)
        except (OSError, RuntimeError) as error:
            print(f"job {job} may go on: the cluster was not told to stop it ({first_line(error)})", flush=True)
        raise


def _start_job(client: Any, command: str, settings: dict[str, str]) -> str:
    """Start the job and return its id; try again while a new cluster answers that it has no agent yet."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return str(client.submit_job(entrypoint=command, runtime_env={"env_vars": settings}))
        except RuntimeError as error:
            if time.monotonic() > deadline:
                raise Refusal(f"the cluster accepts no job: {first_line(error)}") from None
            time.sleep(POLL_SECONDS)


def follow_job(client: Any, job: str) -> int:
    """Print a job's log while it grows, across lost connections, and return the job's exit code."""
    from aiohttp import ClientError

    printed = 0  # characters of the log
    last_answer = time.monotonic()

    async def print_log() -> None:
        nonlocal printed
        position = 0
        async for text in client.tail_job_logs(job):
            print(text[max(0, printed - position) :], end="", flush=True)
            position += len(text)
            printed = max(printed, position)

    while True:
        try:
            asyncio.run(print_log())
            info = client.get_job_info(job)
            last_answer = time.monotonic()
        except (OSError, RuntimeError, ClientError) as error:  # the connection failed, not the job
            if time.monotonic() - last_answer > LOST_SECONDS:
                raise TryLater(
                    f"job {job}: the cluster no longer answers ({first_line(error)}); the job may go on without its log"
                ) from None
            info = None
        if info is not None and info.status.is_terminal():
            return _exit_code(info)
        time.sleep(POLL_SECONDS)


def _exit_code(info: Any) -> int:
    """Return the exit code of the job's command; without one, print the job's status and return 1 if it failed."""
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    if info.status.value == "SUCCEEDED":
        return 0
    print(f"job {info.status.value.lower()}: {info.message}", flush=True)
    return 1
