"""The commands in infra/ exist, and every environment variable that it sets is read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.commands import parser, schedule
from tests.infra.manifests import COMPOSE, CONTAINERS, INFRA, RAY, ROOT, fill_templates


def read_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (place, command) for every command of this project in infra/ and in the output of `trainyard schedule`."""
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("trainyard"):
            yield f"compose {name}", service["command"]
    for name, container in CONTAINERS:
        if "command" in container:
            yield name, container["command"]
    for name, document in RAY.items():
        job = document["spec"].get("jobTemplate", document["spec"])
        if "entrypoint" in job:
            yield name, job["entrypoint"].split()[2:]  # behind env --chdir
    for address in (None, "http://ray.example:8265"):
        unit = fill_templates("systemd", address=address)["systemd/trainyard-retrain.service"]
        yield "systemd", shlex.split(re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)[1])
        line = fill_templates("cron", address=address)["cron/trainyard"].splitlines()[-1]
        yield "cron", shlex.split(line.rpartition("&& ")[2].partition(" >>")[0])


COMMANDS = list(read_commands())


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[f"{p}-{i}" for i, (p, _) in enumerate(COMMANDS)])
def test_every_command_exists(place: str, command: list[str]) -> None:
    if command[:2] == ["ray", "start"]:
        from ray.scripts.scripts import start

        start.make_context("start", command[2:])
        return
    assert command[0] == "trainyard" or command[1:3] == ["-m", "pipelines"]
    arguments = command[1:] if command[0] == "trainyard" else command[3:]
    parsed = parser.build_parser().parse_args(arguments)
    if arguments[0] == "submit":
        parser.build_parser().parse_args(parsed.command)
        arguments = parsed.command
    assert arguments[0] == "tracker" or tuple(arguments) == schedule.COMMAND, "every schedule runs the same command"


def test_compose_and_kubernetes_serve_the_tracker_alike() -> None:
    (command,) = {tuple(command) for _, command in COMMANDS if command[1] == "tracker"}
    assert command[0] == "trainyard"


def test_every_environment_variable_is_read() -> None:
    names = {name for service in COMPOSE["services"].values() for name in service["environment"]}
    names |= {entry["name"] for _, container in CONTAINERS for entry in container.get("env", [])}
    names |= set(re.findall(r"\b(?:MLFLOW|RAY|TRAINYARD)_[A-Z_]+\b", (INFRA / "mlflow/mlflow.yaml").read_text()))
    import mlflow
    import ray

    packages = Path(mlflow.__file__).parent, Path(ray.__file__).parent
    sources = [*(packages[0] / name for name in ("environment_variables.py", "cli/__init__.py", "utils/cli_args.py"))]
    sources += [packages[0] / "server/auth/__init__.py", *(packages[1] / "_private/authentication").glob("*.py")]
    sources += [*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")]
    text = "\n".join(file.read_text() for file in sources)
    names = {
        name for name in names if name.startswith(("MLFLOW_", "RAY_", "TRAINYARD_")) and name != "TRAINYARD_VERSION"
    }
    assert len(names) > 8
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []
