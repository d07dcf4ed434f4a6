"""Let contenders take turns in their own processes, so that the times within a round can be compared."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

READY = "ready"


def serve(epoch: Callable[[], None], lines: Iterable[str] | None = None) -> None:
    """Warm up, then run one epoch per line received and print its seconds; called in a contender's process."""
    epoch()
    print(READY, flush=True)
    for _ in sys.stdin if lines is None else lines:
        started = time.perf_counter()
        epoch()
        print(json.dumps([time.perf_counter() - started]), flush=True)


def race(
    commands: Mapping[str, Sequence[str]], rounds: int, environments: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, list[float]]:
    """Return {name: seconds per round} of the contenders {name: arguments after `python -m`}.

    Each round starts with another contender.
    """
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
        _read_line(processes[name])
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    names = list(commands)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            processes[name].stdin.write("go\n")  # type: ignore[union-attr]
            seconds[name].append(json.loads(_read_line(processes[name]))[0])
    for process in processes.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    return seconds


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return `MEDIAN (LOWEST-HIGHEST)` with that many decimal digits."""
    median, lowest, highest = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({lowest}-{highest})"


def _read_line(process: subprocess.Popen) -> str:
    """Return the next line printed by `serve`; libraries print, too."""
    while line := process.stdout.readline():  # type: ignore[union-attr]
        if line.startswith((READY, "[")):
            return str(line)
    raise SystemExit("a contender failed; see its traceback above")
