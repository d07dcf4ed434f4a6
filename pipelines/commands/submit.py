"""`trainyard submit COMMAND`: runs a command of ours on a Ray cluster, from a checkout that its machines share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.cluster import jobs
from components.errors import Refusal


def main(command: list[str], address: str | None, folder: str | None, python: str | None) -> int:
    where = address or os.environ.get(jobs.ADDRESS) or "http://127.0.0.1:8265"
    if not where.startswith(("http://", "https://")):
        raise Refusal(f"submit: {where}: the address of the cluster's dashboard, such as http://HOST:8265, is needed")
    _parsed(command)
    return jobs.submit_job(where, jobs.job_command(folder or str(Path.cwd()), python or sys.executable, command))


def _parsed(command: list[str]) -> None:
    """Refuses here what would be refused over there."""
    from pipelines.commands import cli

    cli.parser().parse_args(command)
