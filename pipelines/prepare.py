"""prepare: original files -> Arrow files and a manifest, each part written by whichever worker takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.recipes import recipe
from components.storage import dataset as datasets
from pipelines import flagship
from pipelines.stage.context import stage

if TYPE_CHECKING:
    from components.training.peers import Peers

SIDE_BY_SIDE = 8  # workers that draw or decode, at most, where nobody says how many


def main(params: dict[str, Any]) -> None:
    sections = {flagship.prepared_folder(role): params["data"][role] for role in flagship.ROLES}
    with stage("prepare", params, {"data": params["data"]}, inputs=[]) as run:
        for folder, rows in run.spread(write_data_sets, sections, parts=SIDE_BY_SIDE).items():
            run.log_text(f"{folder}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} examples")


def write_data_sets(peers: Peers, sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """On every worker: its share of the parts of each data set; rank 0 adds the manifests. {folder: {split: rows}}."""
    return {folder: write_data_set(peers, recipe.build(section), Path(folder)) for folder, section in sections.items()}


def write_data_set(peers: Peers, dataset: datasets.Dataset, folder: Path) -> dict[str, int]:
    """One data set, its parts shared between the workers: {split: rows}."""
    jobs = peers.broadcast(
        datasets.list_jobs(dataset) if peers.rank == 0 else None
    )  # rank 0 downloads before others look
    mine = [(job, datasets.write_job(dataset, folder, *job)) for job in jobs[peers.rank :: peers.size]]
    parts = [part for theirs in peers.gather(mine) for part in theirs]
    if peers.rank == 0:
        datasets.finish_dataset(dataset, folder, parts)
    rows = dict.fromkeys((split for split, _ in jobs), 0)
    for (split, _), part in parts:
        rows[split] += part.rows
    return rows
