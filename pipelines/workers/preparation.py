"""Write data sets as Arrow files, on workers that share the parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.recipes import recipe
from components.storage import dataset as datasets

if TYPE_CHECKING:
    from components.training.peers import Peers


def write_data_sets(peers: Peers, sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Write the data sets {folder: section of a recipe}; return {folder: {split: rows}}."""
    return {folder: write_data_set(peers, recipe.build(section), Path(folder)) for folder, section in sections.items()}


def write_data_set(peers: Peers, dataset: datasets.Dataset, folder: Path) -> dict[str, int]:
    """Write this worker's parts of a data set into `folder`, and on rank 0 the manifest; return {split: rows}."""
    # Rank 0 downloads before the others look for the original files.
    jobs = peers.broadcast(datasets.list_jobs(dataset) if peers.rank == 0 else None)
    written = [(job, datasets.write_job(dataset, folder, *job)) for job in jobs[peers.rank :: peers.size]]
    parts = [part for share in peers.gather(written) for part in share]
    if peers.rank == 0:
        datasets.finish_dataset(dataset, folder, parts)
    rows = dict.fromkeys((split for split, _ in jobs), 0)
    for (split, _), part in parts:
        rows[split] += part.rows
    return rows
