"""prepare: original files -> Arrow files and a manifest, each part written by whichever worker takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import recipe
from components.data import dataset as datasets
from components.peers import Peers
from pipelines.stage import stage

OUT = "data/prepared"


def main(params: dict[str, Any]) -> None:
    sections = {f"{OUT}/{role}": params["data"][role] for role in ("source", "target")}
    with stage("prepare", params, {"data": params["data"]}, inputs=[]) as run:
        for folder, rows in run.spread(write, sections).items():
            run.tell(f"{folder}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} examples")


def write(peers: Peers, sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """On every worker: its share of the parts of each data set; rank 0 adds the manifests. {folder: {split: rows}}."""
    return {folder: _write(peers, recipe.build(section), Path(folder)) for folder, section in sections.items()}


def _write(peers: Peers, dataset: Any, folder: Path) -> dict[str, int]:
    jobs = datasets.jobs(dataset)
    mine = [(job, datasets.write_job(dataset, folder, *job)) for job in jobs[peers.rank :: peers.size]]
    parts = sorted((part for theirs in peers.gather(mine) for part in theirs), key=lambda part: part[0])
    if peers.rank == 0:
        datasets.write_manifest(folder, dataset, dict(parts))
    rows: dict[str, int] = {}
    for (split, _), part in parts:
        rows[split] = rows.get(split, 0) + part.rows
    return rows
