"""`trainyard ui`: MLflow's server on loopback, and links that open the charts (its front page shows another view)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from components import ports, recipe, tracker, tracker_pages
from components.refusal import Refusal
from components.registry import named


def main(port: int) -> int:
    name, store = named(recipe.load("params.yaml")), tracker.uri()
    base = f"http://127.0.0.1:{port}"
    if store.startswith("http"):
        base = tracker.shown(store).rstrip("/")
    elif ports.answers(f"127.0.0.1:{port}"):
        raise Refusal(f"port {port} is taken: stop what uses it, or choose another: trainyard ui --port {port + 1}")
    families = sorted(file.parent.name for file in Path("pipelines").glob("*/dvc.yaml"))
    for title, address in tracker_pages.links(name, base, families).items():
        print(f"{title:34} {address}", flush=True)
    if store.startswith("http"):
        return 0
    print("Ctrl-C stops the server", flush=True)
    return subprocess.run(tracker.server(port, store), check=False).returncode
