"""`trainyard submit COMMAND`: run one of our commands on a Ray cluster, from a checkout that its machines share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.cluster import jobs
from components.errors import Refusal
from pipelines.commands.parser import build_parser


def main(command: list[str], address: str | None, folder: str | None, python: str | None) -> int:
    """Submit `command` as a job of the cluster with this dashboard, and return the job's exit code."""
    dashboard = address or os.environ.get(jobs.API_ADDRESS) or jobs.DEFAULT_ADDRESS
    if not dashboard.startswith(("http://", "https://")):
        raise Refusal(
            f"submit: {dashboard}: is not the address of the cluster's dashboard; use one such as http://HOST:8265"
        )
    build_parser().parse_args(command)  # reject a wrong command here rather than on the cluster
    return jobs.submit_job(dashboard, jobs.job_command(folder or str(Path.cwd()), python or sys.executable, command))
