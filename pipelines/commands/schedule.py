"""`trainyard schedule --to cron|systemd|slurm|kuberay|kubernetes`: print the files that make a schedule call `retrain`.

The files are templates in infra/, filled with checked values. They are printed one after another, each below a comment
that says where it belongs. `--write FOLDER` writes them there instead.
"""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from components.cluster import jobs
from components.errors import Refusal, suggest_name
from pipelines.commands import slurm
from pipelines.commands.crontime import Times, parse_times

INFRA = Path(__file__).parents[2] / "infra"
COMMAND = ("retrain", "--update")  # what every schedule calls
SECRETS = Path("/etc/trainyard/environment")
# Defaults in the manifests of infra/:
SHARED_CHECKOUT = "/yard"
DASHBOARD = "http://trainyard-head-svc:8265"
IMAGE = "trainyard:0.1.0"
PLACES = {  # --to -> {template: where it belongs}
    "cron": {"cron/trainyard": "crontab"},
    "systemd": {
        "systemd/trainyard-retrain.service": "/etc/systemd/system/trainyard-retrain.service",
        "systemd/trainyard-retrain.timer": "/etc/systemd/system/trainyard-retrain.timer",
    },
    "slurm": {"slurm/trainyard.sbatch": "trainyard.sbatch", "slurm/scrontab": "scrontab -e"},
    "kuberay": {"kuberay/raycronjob.yaml": "kubectl apply -f"},
    "kubernetes": {"kuberay/cronjob.yaml": "kubectl apply -f"},
}
APPLIES_TO = {  # option -> values of --to that it applies to
    "user": ("cron", "systemd"),
    "address": ("cron", "systemd", "kubernetes"),
    "image": ("kuberay", "kubernetes"),
    "nodes": ("slurm",),
    "sbatch": ("slurm",),
}


@dataclass(frozen=True)
class Job:
    """When and where a schedule runs COMMAND.

    user: None for a crontab of one's own. address: dashboard of the cluster that runs it; None runs it directly.
    """

    times: Times
    folder: str
    python: str
    user: str | None
    address: str | None
    image: str
    nodes: int = 1  # of a job of Slurm
    sbatch: Sequence[str] = ()  # its further options


def main(
    to: str,
    at: str,
    folder: str | None,
    python: str | None,
    user: str | None,
    address: str | None,
    image: str | None,
    write: str | None,
    nodes: int | None = None,
    sbatch: Sequence[str] = (),
) -> int:
    """Check the options and print or write the files; return an exit code."""
    if to not in PLACES:
        raise Refusal(f"schedule: --to {to}{suggest_name(to, PLACES)}: any of {', '.join(PLACES)}")
    options = {"user": user, "address": address, "image": image, "nodes": nodes, "sbatch": sbatch or None}
    for option, value in options.items():
        if value is not None and to not in APPLIES_TO[option]:
            targets = " and ".join(APPLIES_TO[option])
            raise Refusal(f"schedule: --{option} means nothing to {to}; it is for {targets}")
    if address is not None and not address.startswith(("http://", "https://")):
        raise Refusal(
            f"schedule: --address {address}: is not the address of a cluster's dashboard, such as http://HOST:8265"
        )
    if to in ("cron", "systemd", "slurm"):
        folder, python, user = check_this_machine(to, folder, python, user)
    job = Job(parse_times(at), folder or SHARED_CHECKOUT, python or "python", user, address, image or IMAGE)
    job = replace(job, nodes=nodes or 1, sbatch=sbatch)
    for value in (job.folder, job.python, job.image, job.address or "", job.user or ""):
        if any(ord(letter) < 32 for letter in value):
            raise Refusal(f"schedule: {value!r} holds a control character")
    texts = render_files(to, job)
    if write is None:
        print("\n".join(text if place == "crontab" else f"# {place}\n{text}" for place, text in texts), end="")
    else:
        write_files(Path(write), dict(zip(PLACES[to], (text for _, text in texts), strict=True)))
    return 0


def write_files(folder: Path, texts: dict[str, str]) -> None:
    """Write the text of each template into `folder` under the template's name, and print the paths."""
    if not folder.is_dir():
        raise Refusal(f"schedule: --write {folder}: no such folder")
    for name, text in texts.items():
        file = folder / Path(name).name
        try:
            file.write_text(text)
        except OSError as error:
            raise Refusal(f"schedule: {file}: {error.strerror}; name a folder that can be written") from None
        print(file)


def check_this_machine(
    to: str, folder: str | None, python: str | None, user: str | None
) -> tuple[str, str, str | None]:
    """Return checkout, Python and user of a schedule on this machine; raise Refusal if one does not exist."""
    checkout = Path(folder or ".").resolve()
    if not (checkout / "params.yaml").is_file() or not (checkout / ".dvc").is_dir():
        raise Refusal(f"schedule: --folder {checkout}: no checkout with params.yaml and .dvc there")
    program = python or sys.executable
    if not os.access(program, os.X_OK):
        raise Refusal(f"schedule: --python {program}: no such program; name the environment's, .venv/bin/python")
    if to == "systemd" and set(program) & set("\"'\\$"):
        raise Refusal(f"schedule: --python {program}: systemd takes no quotes, backslash or $ in a program's name")
    if user is None and to == "systemd":
        user = getpass.getuser()
    users = [entry.pw_name for entry in pwd.getpwall()]
    if user is not None and user not in users:
        raise Refusal(f"schedule: --user {user}{suggest_name(user, users)}: no such user on this machine")
    # Not resolved: an environment's Python is a link to a program outside of it.
    return str(checkout), str(Path(program).absolute()), user


def render_files(to: str, job: Job) -> list[tuple[str, str]]:
    """Return (place, text) of each file."""
    command = [job.python, "-m", "pipelines", *COMMAND]
    if job.address is not None:
        command = [job.python, "-m", "pipelines", "submit", f"--address={job.address}", *COMMAND]
    values: dict[str, Any] = {"calendar": job.times.calendar(), "when": job.times.cron()}
    if to == "cron":
        shell = f"cd {shlex.quote(job.folder)} && "
        shell += f"mkdir -p .trainyard && {shlex.join(command)} >> .trainyard/retrain.log 2>&1"
        values |= {"command": shell.replace("%", r"\%"), "user": f"{job.user} " if job.user else "", "secrets": SECRETS}
    elif to == "systemd":
        words = [json.dumps(word).replace("%", "%%").replace("$", "$$") for word in command]
        folder = job.folder.replace("%", "%%")
        quoted_folder = json.dumps(folder, ensure_ascii=False)
        values |= {"command": " ".join(words), "user": job.user or "", "folder": folder, "quoted_folder": quoted_folder}
        values |= {"secrets": SECRETS}
    elif to == "slurm":
        script = slurm.render_script(COMMAND, job.folder, job.python, job.nodes, job.sbatch)
        values |= {"script": shlex.quote(f"{job.folder}/{PLACES[to]['slurm/trainyard.sbatch']}")}
        scrontab = Template((INFRA / "slurm/scrontab").read_text()).substitute(values)
        return [(PLACES[to]["slurm/trainyard.sbatch"], script), (PLACES[to]["slurm/scrontab"], scrontab)]
    else:
        submit = ["trainyard", "submit", f"--address={job.address or DASHBOARD}", f"--folder={job.folder}"]
        quoted = {
            "when": job.times.cron(),
            "entrypoint": jobs.job_command(job.folder, job.python, list(COMMAND)),
            "image": job.image,
            "command": [*submit, f"--python={job.python}", *COMMAND],
        }
        values |= {name: json.dumps(value) for name, value in quoted.items()}
    return [(place, Template((INFRA / name).read_text()).substitute(values)) for name, place in PLACES[to].items()]
