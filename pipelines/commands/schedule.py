"""`trainyard schedule --to cron|systemd|slurm|kuberay|kubernetes`: print the files that make a schedule call `retrain`.

The files are templates in infra/, filled with checked values. They are printed one after another, each below a comment
that says where it belongs. `--write FOLDER` writes them there instead.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from string import Template
from typing import Any

from components.cluster import jobs
from components.environment_file import is_file, read_environment_file
from components.errors import Refusal, suggest_name
from pipelines.commands import slurm
from pipelines.commands.crontime import Times, check_zone, clock_changes, parse_times

INFRA = Path(__file__).parents[2] / "infra"
COMMAND = ("retrain", "--update")  # what every schedule calls
SECRETS = Path("/etc/trainyard/environment")
# Defaults in the manifests of infra/:
SHARED_CHECKOUT = "/yard"
DASHBOARD = "http://trainyard-head-svc:8265"
IMAGE = "trainyard:0.1.0"
SYSTEM_CRONTAB = Path("/etc/cron.d/trainyard")  # of cron if `--user` names who runs the command
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
    "env-file": ("cron", "systemd"),
    "zone": ("cron", "systemd", "kuberay", "kubernetes"),  # scrontab has that of Slurm's controller
}
CRON_DAEMONS = ("cron", "crond")
SYSTEM_PATH = "/usr/sbin:/sbin"  # of daemons, which a user's PATH may not have
CRON_ZONE = "CRON_TZ"  # read by cronie; the crons of Debian and macOS ignore it


@dataclass(frozen=True)
class Job:
    """When and where a schedule runs COMMAND.

    user: None for a crontab of one's own. address: dashboard of the cluster that runs it; None runs it directly.
    zone: of the times; None for that of the machine. secrets: the file of environment variables, None for SECRETS,
    which may be missing.
    """

    times: Times
    folder: str
    python: str
    user: str | None
    address: str | None
    image: str
    nodes: int = 1  # of a job of Slurm
    sbatch: Sequence[str] = ()  # its further options
    script_folder: str | None = None  # of its script; None for `folder`
    zone: str | None = None
    secrets: str | None = None


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
    zone: str | None = None,
    env_file: str | None = None,
) -> int:
    """Check the options and print or write the files; return an exit code."""
    if to not in PLACES:
        raise Refusal(f"schedule: --to {to}{suggest_name(to, PLACES)}; choose from {', '.join(PLACES)}")
    options = {"user": user, "address": address, "image": image, "nodes": nodes, "sbatch": sbatch or None}
    for option, value in (options | {"zone": zone, "env-file": env_file}).items():
        if value is not None and to not in APPLIES_TO[option]:
            targets = " and ".join(APPLIES_TO[option])
            raise Refusal(f"schedule: --{option} does not apply to --to {to}, only to {targets}")
    if address is not None:
        jobs.check_dashboard(address)
    if to in ("kuberay", "kubernetes") and not (folder or SHARED_CHECKOUT).startswith("/"):
        raise Refusal(f"schedule: --folder {folder}: write the full path of the checkout on the cluster, such as /yard")
    if to == "cron" and user is None and write is not None and Path(write).resolve() == SYSTEM_CRONTAB.parent:
        raise Refusal(f"schedule: a file in {SYSTEM_CRONTAB.parent} names who runs the command: add --user NAME")
    if to in ("cron", "systemd", "slurm"):
        folder, python, user = check_this_machine(to, folder, python, user)
    if to in APPLIES_TO["env-file"]:
        env_file = check_environment_file(to, env_file, user)
    times = parse_times(at)
    if zone is not None:
        check_zone(zone)
        for line in clock_changes(times, zone, date.today()):
            print(f"trainyard: note: in {zone} {line}; another hour is safer", file=sys.stderr)
    job = Job(times, folder or SHARED_CHECKOUT, python or "python", user, address, image or IMAGE)
    script_folder = None if write is None else str(Path(write).resolve())
    job = replace(job, nodes=nodes or 1, sbatch=sbatch, script_folder=script_folder, zone=zone, secrets=env_file)
    written = (job.folder, job.python, job.image, job.address, job.user, job.secrets, job.script_folder)
    for value in filter(None, written):
        if any(ord(letter) < 32 for letter in value):
            raise Refusal(f"schedule: {value!r} holds a control character")
    for value in (job.folder, job.python) if to == "kuberay" else ():
        if shlex.quote(value) != value:
            raise Refusal(
                f"schedule: {value}: two shells read KubeRay's entrypoint; use letters, digits, / . - _ alone"
            )
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
        user = own_name()
    users = [entry.pw_name for entry in pwd.getpwall()]
    if user is not None and user not in users:
        raise Refusal(f"schedule: --user {user}{suggest_name(user, users)}: no such user on this machine")
    # Not resolved: an environment's Python is a link to a program outside of it.
    return str(checkout), str(Path(program).absolute()), user


def own_name() -> str:
    """Return the name of this process's user, whatever the environment says; refuse a user id without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise Refusal(f"schedule: the user id {os.getuid()} has no name here; name the user: --user NAME") from None


def check_environment_file(to: str, path: str | None, user: str | None) -> str | None:
    """Return the absolute path of a file of environment variables after reading it, None for the default one.

    user: who runs the command, None for this process's user. Raise Refusal if the file is missing, if cron's command
    could not read it, or if it holds what systemd and `trainyard` would read differently. The default file may be
    missing. systemd reads the file as root: if this user cannot, say that its lines were not checked.
    """
    file = SECRETS if path is None else Path(path).absolute()
    if not is_file(file):
        if path is None:
            return None
        raise Refusal(f"schedule: --env-file {path}: no such file; write it, with lines NAME=VALUE and mode 0600")
    if to == "systemd" and set(str(file)) & set("*?[\\"):
        raise Refusal(f"schedule: --env-file {file}: systemd takes *, ?, [ and \\ in its path for patterns; move it")
    if to == "cron" and not can_read(user, file):
        reader = user or "you"
        raise Refusal(
            f"schedule: {file}: cron runs the command as {reader}, who cannot read it; name a file that belongs to "
            f"{reader}, with mode 0600: --env-file FILE"
        )
    if os.access(file, os.R_OK):
        read_environment_file(file)
        if file.stat().st_mode & stat.S_IROTH:
            print(f"trainyard: note: the mode of {file} lets every user read it: chmod 600 {file}", file=sys.stderr)
    else:
        print(f"trainyard: note: {file} cannot be read here, so its lines were not checked", file=sys.stderr)
    return None if path is None else str(file)


def can_read(user: str | None, file: Path) -> bool:
    """Return whether a user (None: that of this process) can read a file; True if only root could find out."""
    if user is None or pwd.getpwnam(user).pw_uid == os.geteuid():
        return os.access(file, os.R_OK)
    if os.geteuid() != 0:
        return True
    entry = pwd.getpwnam(user)
    groups = os.getgrouplist(user, entry.pw_gid)
    test = ["test", "-r", str(file)]
    return not subprocess.run(test, user=entry.pw_uid, group=entry.pw_gid, extra_groups=groups, check=False).returncode


def knows_zones() -> bool:
    """Return whether the cron of this machine reads CRON_TZ; True if there is none, because the file goes elsewhere."""
    path = os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH])
    daemons = [daemon for name in CRON_DAEMONS if (daemon := shutil.which(name, path=path))]
    return not daemons or any(CRON_ZONE.encode() in Path(daemon).read_bytes() for daemon in daemons)


def cron_times(job: Job) -> tuple[str, str, str]:
    """Return (the line that sets the zone, the five fields, the test before the command) for a crontab.

    A cron that ignores zones starts the test every quarter of an hour, and the test asks for the time in the zone.
    """
    if job.zone is None:
        return "", job.times.cron(), ""
    setting = f"{CRON_ZONE}={job.zone}\n"
    if knows_zones():
        return setting, job.times.cron(), ""
    now = f"TZ={shlex.quote(job.zone)} date '+%M %H %d %m %w'"
    return setting, job.times.quarters(), f"{now} | grep -Eqx '{job.times.pattern()}' && "


def render_files(to: str, job: Job) -> list[tuple[str, str]]:
    """Return (place, text) of each file."""
    command = [job.python, "-m", "pipelines", *COMMAND]
    if job.address is not None:
        command = [job.python, "-m", "pipelines", "submit", f"--address={job.address}", *COMMAND]
    values: dict[str, Any] = {"calendar": job.times.calendar(job.zone)}
    if to == "cron":
        zone, when, test = cron_times(job)
        shell = f"{test}cd {shlex.quote(job.folder)} && "
        shell += f"mkdir -p .trainyard && {shlex.join(command)} >> .trainyard/retrain.log 2>&1"
        values |= {"zone": zone, "when": when, "command": shell.replace("%", r"\%")}
        values |= {"user": f"{job.user} " if job.user else "", "secrets": job.secrets or SECRETS}
    elif to == "systemd":
        words = [json.dumps(word).replace("%", "%%").replace("$", "$$") for word in command]
        folder = job.folder.replace("%", "%%")
        quoted_folder = json.dumps(folder, ensure_ascii=False)
        values |= {"command": " ".join(words), "user": job.user or "", "folder": folder, "quoted_folder": quoted_folder}
        secrets = f"-{SECRETS}" if job.secrets is None else job.secrets  # systemd ignores a missing file behind a dash
        values |= {"secrets": secrets.replace("%", "%%")}
    elif to == "slurm":
        script = slurm.render_script(COMMAND, job.folder, job.python, job.nodes, job.sbatch)
        values["script"] = shlex.quote(f"{job.script_folder or job.folder}/{PLACES[to]['slurm/trainyard.sbatch']}")
        values["logs"] = shlex.quote(f"{job.folder}/.trainyard")
        values["when"] = job.times.cron()
        scrontab = Template((INFRA / "slurm/scrontab").read_text()).substitute(values)
        return [(PLACES[to]["slurm/trainyard.sbatch"], script), (PLACES[to]["slurm/scrontab"], scrontab)]
    else:
        submit = ["trainyard", "submit", f"--address={job.address or DASHBOARD}", f"--folder={job.folder}"]
        quoted = {
            "when": job.times.cron(),
            # KubeRay writes it into a command of the submitter's shell as it is: `cd ... &&` would end that command.
            "entrypoint": " ".join(["env", f"--chdir={job.folder}", job.python, "-m", "pipelines", *COMMAND]),
            "image": job.image,
            "command": [*submit, f"--python={job.python}", *COMMAND],
        }
        values |= {name: json.dumps(value) for name, value in quoted.items()}
        values["zone"] = f"\n  timeZone: {json.dumps(job.zone)}" if job.zone else ""
    places = PLACES[to] if to != "cron" or job.user is None else dict.fromkeys(PLACES[to], str(SYSTEM_CRONTAB))
    return [(place, Template((INFRA / name).read_text()).substitute(values)) for name, place in places.items()]
