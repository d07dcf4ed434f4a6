"""`trainyard schedule --to cron|systemd|kuberay|kubernetes`: prints what makes a schedule call `trainyard retrain`.

The texts are files of infra/; what is filled in is checked first. Printed: one file after the other, each below a
comment with the place it belongs to; `--write FOLDER` writes them instead.
"""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from components.cluster import jobs
from components.errors import Refusal, suggest_name
from pipelines.commands.crontime import Times, parse_times

INFRA = Path(__file__).parents[2] / "infra"
COMMAND = ("retrain", "--update")  # what every schedule calls
SECRETS = Path("/etc/trainyard/environment")
YARD, DASHBOARD, IMAGE = "/yard", "http://trainyard-head-svc:8265", "trainyard:0.1.0"  # as the manifests have them
PLACES = {  # --to -> {template: where it belongs}
    "cron": {"cron/trainyard": "crontab"},
    "systemd": {
        "systemd/trainyard-retrain.service": "/etc/systemd/system/trainyard-retrain.service",
        "systemd/trainyard-retrain.timer": "/etc/systemd/system/trainyard-retrain.timer",
    },
    "kuberay": {"kuberay/raycronjob.yaml": "kubectl apply -f"},
    "kubernetes": {"kuberay/cronjob.yaml": "kubectl apply -f"},
}
TAKES = {  # option -> the targets that it means something to
    "user": ("cron", "systemd"),
    "address": ("cron", "systemd", "kubernetes"),
    "image": ("kuberay", "kubernetes"),
}


@dataclass(frozen=True)
class Job:
    times: Times
    folder: str
    python: str
    user: str | None
    address: str | None
    image: str


def main(
    to: str,
    at: str,
    folder: str | None,
    python: str | None,
    user: str | None,
    address: str | None,
    image: str | None,
    write: str | None,
) -> int:
    if to not in PLACES:
        raise Refusal(f"schedule: --to {to}{suggest_name(to, PLACES)}: any of {', '.join(PLACES)}")
    for option, value in (("user", user), ("address", address), ("image", image)):
        if value is not None and to not in TAKES[option]:
            raise Refusal(f"schedule: --{option} means nothing to {to}; it is for {' and '.join(TAKES[option])}")
    if address is not None and not address.startswith(("http://", "https://")):
        raise Refusal(f"schedule: --address {address}: the cluster's dashboard, such as http://HOST:8265, is needed")
    here = to in ("cron", "systemd")
    if here:
        folder, python, user = check_this_machine(to, folder, python, user)
    job = Job(parse_times(at), folder or YARD, python or "python", user, address, image or IMAGE)
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
    """Writes each template's text below its own name."""
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
    """Folder, environment and user, which must be there. A crontab of one's own names no user."""
    where = Path(folder or ".").resolve()
    if not (where / "params.yaml").is_file() or not (where / ".dvc").is_dir():
        raise Refusal(f"schedule: --folder {where}: no checkout with params.yaml and .dvc there")
    program = python or sys.executable
    if not os.access(program, os.X_OK):
        raise Refusal(f"schedule: --python {program}: no such program; name the environment's, .venv/bin/python")
    if to == "systemd" and set(program) & set("\"'\\$"):
        raise Refusal(f"schedule: --python {program}: systemd takes no quotes, backslash or $ in a program's name")
    if user is None:
        user = getpass.getuser() if to == "systemd" else None
    known = [entry.pw_name for entry in pwd.getpwall()]
    if user is not None and user not in known:
        raise Refusal(f"schedule: --user {user}{suggest_name(user, known)}: no such user on this machine")
    return str(where), str(Path(program).absolute()), user  # not resolved: it is a link out of its environment


def render_files(to: str, job: Job) -> list[tuple[str, str]]:
    """(place, text) of each file."""
    command = [job.python, "-m", "pipelines", *COMMAND]
    if job.address is not None:
        command = [job.python, "-m", "pipelines", "submit", f"--address={job.address}", *COMMAND]
    values = {"calendar": job.times.calendar(), "when": job.times.cron()}
    if to == "cron":
        shell = f"cd {shlex.quote(job.folder)} && set -a && {{ [ ! -r {SECRETS} ] || . {SECRETS}; }} && "
        shell += f"mkdir -p .trainyard && {shlex.join(command)} >> .trainyard/retrain.log 2>&1"
        values |= {"command": shell.replace("%", r"\%"), "user": f"{job.user} " if job.user else ""}
    elif to == "systemd":
        words = [json.dumps(word).replace("%", "%%").replace("$", "$$") for word in command]
        values |= {"command": " ".join(words), "user": job.user or "", "folder": job.folder.replace("%", "%%")}
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
