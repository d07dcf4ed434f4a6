"""`trainyard submit COMMAND`: runs a command of ours on a Ray cluster, from a checkout that its machines share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components import jobs
from components.refusal import Refusal, closest

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own name for it


def main(command: list[str], address: str | None, folder: str | None, python: str | None) -> int:
    where = address or os.environ.get(ADDRESS) or "http://127.0.0.1:8265"
    if not where.startswith(("http://", "https://")):
        raise Refusal(f"submit: {where}: the address of the cluster's dashboard, such as http://HOST:8265, is needed")
    check(command)
    return jobs.submit(where, jobs.entrypoint(folder or str(Path.cwd()), python or sys.executable, command))


def check(command: list[str]) -> None:
    """Refuses what `trainyard` would not understand over there."""
    from pipelines import cli

    known = cli.commands()
    if not command or command[0] not in known:
        word = command[0] if command else ""
        raise Refusal(f"submit: no command '{word}'{closest(word, known)}; any of {', '.join(known)}")
    cli.parser().parse_args(command)
