"""`trainyard submit COMMAND`: run one of our commands on a Ray cluster or in Slurm's queue, in a shared checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from components.cluster import jobs
from components.errors import Refusal
from pipelines.commands import slurm
from pipelines.commands.parser import build_parser


def main(
    command: list[str],
    address: str | None,
    folder: str | None,
    python: str | None,
    to: str = "ray",
    nodes: int | None = None,
    sbatch: Sequence[str] = (),
    write: str | None = None,
) -> int:
    """Submit `command` as a job of the cluster with this dashboard, and return the job's exit code.

    to: "slurm" queues the job on `nodes` nodes with the options `sbatch`, or writes its script alone.
    """
    if to == "slurm":
        if address is not None:
            raise Refusal("submit: --address does not apply to --to slurm; leave it out")
        build_parser().parse_args(command)
        return slurm.submit(command, folder, python, nodes or 1, sbatch, write)
    for option, value in (("nodes", nodes), ("sbatch", sbatch), ("write", write)):
        if value:
            raise Refusal(f"submit: --{option} is for --to slurm")
    dashboard = address or os.environ.get(jobs.API_ADDRESS) or jobs.DEFAULT_ADDRESS
    jobs.check_dashboard(dashboard)
    build_parser().parse_args(command)  # reject a wrong command here rather than on the cluster
    checkout = str(Path(folder or ".").absolute())
    return jobs.submit_job(dashboard, jobs.job_command(checkout, python or sys.executable, command))
