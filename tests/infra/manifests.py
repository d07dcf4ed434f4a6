"""The manifests, units and services of infra/ as the tests read them, templates filled in."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.commands import crontime, schedule

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
TEMPLATES = {name for places in schedule.PLACES.values() for name in places}
MANIFESTS = sorted(file for folder in ("kuberay", "mlflow") for file in (INFRA / folder).glob("*.yaml"))
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN$|ACCESS_KEY")


def fill_templates(to: str, at: str = "30 2 * * 1-5", **options: str) -> dict[str, str]:
    """Return {name of the template: its text} for a schedule by `to`."""
    values = {
        "folder": "/yard",
        "python": "python",
        "user": None,
        "address": None,
        "image": "trainyard:0.1.0",
    } | options
    job = schedule.Job(crontime.parse_times(at), **values)
    return dict(zip(schedule.PLACES[to], [text for _, text in schedule.render_files(to, job)], strict=True))


def read_documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("FOLDER/FILE:KIND", document) of every Kubernetes manifest."""
    templates = {"kuberay/raycronjob.yaml": "kuberay", "kuberay/cronjob.yaml": "kubernetes"}
    for file in MANIFESTS:
        name = f"{file.parent.name}/{file.name}"
        text = fill_templates(templates[name])[name] if name in templates else file.read_text()
        yield from ((f"{name}:{document['kind']}", document) for document in yaml.safe_load_all(text))


def find_pods(document: Any) -> Iterator[dict[str, Any]]:
    """Yield the spec of every pod in a document."""
    if isinstance(document, dict):
        if "containers" in document:
            yield document
        for value in document.values():
            yield from find_pods(value)
    elif isinstance(document, list):
        for value in document:
            yield from find_pods(value)


DOCUMENTS = dict(read_documents())
RAY = {name: document for name, document in DOCUMENTS.items() if document["apiVersion"] == "ray.io/v1"}
PODS = [(name, pod) for name, document in DOCUMENTS.items() for pod in find_pods(document)]
CONTAINERS = [(name, container) for name, pod in PODS for container in pod["containers"]]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())


def analyze_units(*arguments: str) -> str:
    """Return the output of systemd-analyze, which must succeed; skip the test where there is none."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze on this machine")
    environment = environ | {"TZ": "UTC"}
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
