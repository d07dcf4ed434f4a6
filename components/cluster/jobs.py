"""Commands handed to a Ray cluster through its Jobs API: sent, followed, ended."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from typing import Any

from ..errors import Refusal, first_line
from .connection import RAY_SETTINGS, START_TIMEOUT, authenticate

SETTINGS = ("TRAINYARD_WORKERS", "TRAINYARD_THREADS", "TRAINYARD_BY", "TRAINYARD_ALLOW")  # what a job may need to know
ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own name for it
LOOK = 1.0  # seconds between two looks at a job whose log has ended
LOST = 60.0  # seconds without an answer after which a cluster counts as gone


def job_command(folder: str, python: str, arguments: list[str]) -> str:
    """What the cluster runs: a trainyard command in the checkout that all its machines share."""
    return f"cd {shlex.quote(folder)} && exec {shlex.quote(python)} -m pipelines {shlex.join(arguments)}"


def submit_job(address: str, command: str) -> int:
    """Runs `command` on the head of the cluster whose dashboard is at `address`; prints its log; its exit code.

    SETTINGS travel with it. Passwords, and an address that is as good as one (TRAINYARD_WEBHOOK), do not: jobs are
    shown in the dashboard, so the cluster's own environment holds them. Interrupted, it stops the job.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ[ADDRESS] = address  # without it, a RAY_ADDRESS in the environment would win over the argument
    authenticate()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    try:
        client = JobSubmissionClient(address)
        job = _sent(client, command, settings)
    except AuthenticationError:
        raise Refusal(f"{address} refuses our token: RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH must hold its own") from None
    except (ConnectionError, ValueError) as error:
        raise Refusal(f"{address}: no Jobs API of a Ray cluster answers there ({first_line(error)})") from None
    print(f"job {job} at {address}", flush=True)
    try:
        return follow_job(client, job)
    except KeyboardInterrupt:
        client.stop_job(job)
        raise


def _sent(client: Any, command: str, settings: dict[str, str]) -> str:
    """The job's id. A cluster that has just begun answers that it has no agent yet, and is asked again."""
    until = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return str(client.submit_job(entrypoint=command, runtime_env={"env_vars": settings}))
        except RuntimeError as error:
            if time.monotonic() > until:
                raise Refusal(f"the cluster takes no job: {first_line(error)}") from None
            time.sleep(LOOK)


def follow_job(client: Any, job: str) -> int:
    """Prints a job's log as it grows, however often the connection breaks; its exit code."""
    from aiohttp import ClientError

    shown, heard = 0, time.monotonic()  # characters of the log that are printed; when the cluster last answered

    async def tail() -> None:
        nonlocal shown
        position = 0
        async for text in client.tail_job_logs(job):
            print(text[max(0, shown - position) :], end="", flush=True)
            position += len(text)
            shown = max(shown, position)

    while True:
        try:
            asyncio.run(tail())
            found = client.get_job_info(job)
            heard = time.monotonic()
        except (OSError, RuntimeError, ClientError) as error:  # of the connection, not of the job
            if time.monotonic() - heard > LOST:
                raise Refusal(f"job {job}: the cluster does not answer any more ({first_line(error)})") from None
            found = None
        if found is not None and found.status.is_terminal():
            return _code(found)
        time.sleep(LOOK)


def _code(found: Any) -> int:
    """The command's own exit code, or 1 and a word on why there is none."""
    if found.driver_exit_code is not None:
        return int(found.driver_exit_code)
    if found.status.value != "SUCCEEDED":
        print(f"job {found.status.value.lower()}: {found.message}", flush=True)
    return int(found.status.value != "SUCCEEDED")
