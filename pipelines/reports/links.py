"""Find the MLflow pages that show the runs, and note their addresses in a file: a summary then needs no MLflow."""

from __future__ import annotations

from components import network
from components.errors import Refusal
from components.files import read_object, write_json
from components.tracking import mirror, pages, server
from components.workspace import repository_root, runs_folder, work_folder

LOCAL = "http://127.0.0.1:5000"  # where `trainyard ui` serves
NOTE = "links.json"


def find_links(experiment: str) -> dict[str, str]:
    """Return {title: address} of the experiment's pages, and note them; the front page alone if MLflow does not answer.

    Where a parent process sends the runs to MLflow, return the noted links: it asks again once all runs are sent.
    """
    if mirror.has_shared_mirror(runs_folder()):
        return noted_links()
    links = _front_page()
    if _is_reachable():
        try:
            links = pages.find_pages(experiment, _base())
        except Exception as error:  # a fault of the tracker must not fail the report
            print(f"MLflow did not answer ({server.explain_failure(error)}): no links to its runs")
    write_json(work_folder() / NOTE, links)
    return links


def noted_links() -> dict[str, str]:
    """Return what `find_links` found last; the front page alone before that, or if the note is damaged."""
    try:
        links = read_object(work_folder() / NOTE)
    except (FileNotFoundError, Refusal, ValueError):
        return _front_page()
    return {title: str(address) for title, address in links.items()}


def _front_page() -> dict[str, str]:
    return {"front page": _base()}


def _base() -> str:
    """Return the address of MLflow's pages, without credentials."""
    uri = server.tracking_uri()
    return server.hide_credentials(uri).rstrip("/") if uri.startswith("http") else LOCAL


def _is_reachable() -> bool:
    """Return whether the tracking server accepts connections, or the local store exists."""
    uri = server.tracking_uri()
    if uri.startswith("http"):
        return network.accepts_connections(network.host_and_port(uri))
    return (repository_root() / "mlflow.db").is_file()
