"""Addresses of the MLflow pages that open on the runs. They are noted in a file: a summary needs no MLflow."""

from __future__ import annotations

import json

from components import network
from components.errors import first_line
from components.files import write_json
from components.tracking import mirror, pages, server
from components.workspace import repository_root, runs_folder, work_folder

LOCAL = "http://127.0.0.1:5000"  # where `trainyard ui` serves
NOTE = "links.json"


def find_links(experiment: str) -> dict[str, str]:
    """Title -> address, asked of the tracker; its front page alone when it has no answer.

    In a stage whose runs a parent process sends: those noted before. That process asks, once all has been sent.
    """
    if mirror.has_shared_mirror(runs_folder()):
        return noted_links()
    found = {"front page": _base()}
    if _there():
        try:
            found = pages.find_pages(experiment, _base())
        except Exception as error:  # whatever the tracker does must not cost the report
            print(f"MLflow did not answer ({server.hide_credentials(first_line(error))}): no links to its runs")
    write_json(work_folder() / NOTE, found)
    return found


def noted_links() -> dict[str, str]:
    """What `links` found last."""
    note = work_folder() / NOTE
    known: dict[str, str] = json.loads(note.read_text()) if note.is_file() else {"front page": _base()}
    return known


def _base() -> str:
    return (
        server.hide_credentials(server.tracking_uri()).rstrip("/")
        if server.tracking_uri().startswith("http")
        else LOCAL
    )


def _there() -> bool:
    if server.tracking_uri().startswith("http"):
        return network.accepts_connections(network.host_and_port(server.tracking_uri()))
    return (repository_root() / "mlflow.db").is_file()
