"""`trainyard ui`: serve MLflow on loopback and print links to its charts, which its front page does not show."""

from __future__ import annotations

from pathlib import Path

from components import network
from components.errors import Refusal
from components.processes import process_group
from components.recipes import recipe
from components.tracking import pages, probe, server
from components.tracking.registry import model_name


def main(port: int) -> int:
    """Print the links and serve until interrupted; if runs go to a server elsewhere, only print links to it."""
    name = model_name(recipe.load("params.yaml"))
    store = server.tracking_uri()
    probe.check_tracker(store)
    is_remote = store.startswith("http")
    base = server.hide_credentials(store).rstrip("/") if is_remote else f"http://127.0.0.1:{port}"
    if not is_remote and network.accepts_connections(f"127.0.0.1:{port}"):
        raise Refusal(f"port {port} is taken: stop what uses it, or choose another: trainyard ui --port {port + 1}")
    families = sorted(file.parent.name for file in Path("pipelines").glob("*/dvc.yaml"))
    for title, address in pages.find_pages(name, base, families).items():
        print(f"{title:34} {address}", flush=True)
    if is_remote:
        return 0
    print("Ctrl-C stops the server", flush=True)
    try:
        with process_group(server.server_command(port), server.server_settings(store)) as process:
            return process.wait()
    except KeyboardInterrupt:
        print("the server has stopped")
        return 0
