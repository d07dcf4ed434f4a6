"""Write data sets as Arrow files, on workers that share the parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.recipes import recipe
from components.storage import dataset as datasets
from components.storage.part import PartSummary

if TYPE_CHECKING:
    from components.training.peers import Peers


def write_data_sets(peers: Peers, sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Write the data sets {folder: section of a recipe}; return {folder: {split: rows}}."""
    return {folder: write_data_set(peers, recipe.build(section), Path(folder)) for folder, section in sections.items()}


def write_data_set(peers: Peers, dataset: datasets.Dataset, folder: Path) -> dict[str, int]:
    """Write this worker's parts of a data set into `folder`, and on rank 0 the manifest; return {split: rows}."""
    # Rank 0 downloads before the others look for the original files.
    pairs = peers.broadcast([tuple(job) for job in datasets.list_jobs(dataset)] if peers.rank == 0 else None)
    jobs = [datasets.Job(*pair) for pair in pairs]
    own_jobs = jobs[peers.rank :: peers.size]
    shares = peers.gather([(tuple(job), asdict(datasets.write_job(dataset, folder, *job))) for job in own_jobs])
    parts = [(datasets.Job(*pair), PartSummary(**summary)) for share in shares for pair, summary in share]
    if peers.rank == 0:
        datasets.finish_dataset(dataset, folder, parts)
    rows = dict.fromkeys((split for split, _ in jobs), 0)
    for (split, _), part in parts:
        rows[split] += part.rows
    return rows
