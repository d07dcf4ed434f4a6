"""Run a command as a job of the batch system Slurm: write the script, and hand it to `sbatch`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from components.errors import Refusal, TryLater

TEMPLATE = Path(__file__).parents[2] / "infra" / "slurm" / "trainyard.sbatch"
PASSING = re.compile("contact|connect|timed out|temporar|limit|again", re.IGNORECASE)  # reasons that time mends
OURS = ("nodes", "ntasks-per-node", "requeue", "no-requeue", "signal", "open-mode", "output", "wrap")


def render_script(command: Sequence[str], folder: str, python: str, nodes: int = 1, options: Sequence[str] = ()) -> str:
    """Return the script of a job that runs a trainyard command in the checkout that all nodes share.

    options: of sbatch, such as --partition=gpu; those in OURS are set by the script.
    """
    for option in options:
        match = re.fullmatch(r"--([a-z][a-z-]*)(=[^\s\x00-\x1f]+)?", option)
        if match is None:
            raise Refusal(f"--sbatch {option!r}: is not an option of sbatch such as --partition=gpu")
        if match[1] in OURS:
            raise Refusal(f"--sbatch {option}: the script sets --{match[1]} itself; leave it out")
    for value in (folder, python):
        if any(ord(letter) < 32 for letter in value):
            raise Refusal(f"slurm: {value!r} holds a control character")
    if re.search(r"[\s\"'%\\]", folder):
        raise Refusal(f"slurm: {folder}: sbatch takes no spaces, quotes, backslash or % in the path of the log")
    values = {
        "name": f"trainyard-{command[0]}",
        "nodes": str(nodes),
        "log": f"{folder}/.trainyard/slurm-%j.log",
        "options": "\n".join(f"#SBATCH {option}" for option in options),
        "folder": shlex.quote(folder),
        "python": shlex.quote(python),
        "command": shlex.join([python, "-m", "pipelines", *command]),
    }
    text = TEMPLATE.read_text()
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text


def submit(
    command: Sequence[str],
    folder: str | None,
    python: str | None,
    nodes: int,
    options: Sequence[str],
    write: str | None,
) -> int:
    """Write the script, and hand it to sbatch unless it is only to be written; return an exit code.

    write: the file; None: below .trainyard of the checkout.
    """
    checkout = Path(folder or ".").resolve()
    text = render_script(command, str(checkout), python or sys.executable, nodes, options)
    file = Path(write) if write is not None else checkout / ".trainyard" / f"{command[0]}.sbatch"
    try:
        (checkout / ".trainyard").mkdir(parents=True, exist_ok=True)  # Slurm does not create the folder of a log
        file.write_text(text)
    except OSError as error:
        raise Refusal(f"submit: {file}: {error.strerror}; name a file that can be written") from None
    print(file)
    if write is not None:
        return 0
    try:
        done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refusal(f"submit: sbatch is not here; on a machine of the batch system: sbatch {file}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        fault = TryLater if PASSING.search(reason) else Refusal
        raise fault(f"sbatch: {reason}; the script is {file}")
    job = done.stdout.strip().partition(";")[0]
    print(f"job {job}: its log is {checkout}/.trainyard/slurm-{job}.log; to stop it: scancel {job}")
    return 0
