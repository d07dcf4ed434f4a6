"""Contenders in processes of their own that take turns: what a round measures can be compared."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

READY = "ready"


def serve(epoch: Callable[[], None], lines: Iterable[str] | None = None) -> None:
    """In a contender's process: warms up, then runs one epoch for each line it is sent and prints its seconds."""
    epoch()
    print(READY, flush=True)
    for _ in sys.stdin if lines is None else lines:
        started = time.perf_counter()
        epoch()
        print(json.dumps([time.perf_counter() - started]), flush=True)


def race(
    commands: Mapping[str, Sequence[str]], rounds: int, environments: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, list[float]]:
    """Seconds of each contender (name -> arguments after `python -m`) in each round; another begins each round."""
    processes = {}
    for name, command in commands.items():
        processes[name] = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=(environments or {}).get(name),
        )
        _said(processes[name])
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    names = list(commands)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            processes[name].stdin.write("go\n")  # type: ignore[union-attr]
            seconds[name].append(json.loads(_said(processes[name]))[0])
    for process in processes.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    return seconds


def _said(process: subprocess.Popen) -> str:
    """The next line that is ours: libraries print, too."""
    while line := process.stdout.readline():  # type: ignore[union-attr]
        if line.startswith((READY, "[")):
            return str(line)
    raise SystemExit("a contender died; see its traceback above")
