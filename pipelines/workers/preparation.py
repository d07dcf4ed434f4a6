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
    return {
        folder: write_data_set(peers, recipe.build(section, datasets.Dataset), Path(folder))
        for folder, section in sections.items()
    }


def write_data_set(peers: Peers, dataset: datasets.Dataset, folder: Path) -> dict[str, int]:
    """Write this worker's parts of a data set into `folder`, and on rank 0 the manifest; return {split: rows}."""
    # Rank 0 downloads before the others look for the original files.
    pairs = peers.broadcast([tuple(job) for job in datasets.list_jobs(dataset)] if peers.rank == 0 else None)
    jobs = [datasets.Job(*pair) for pair in pairs]
    parts = _write_jobs(peers, dataset, folder, {job: set() for job in jobs})
    # Every worker reviews all parts, so that all raise the same refusal.
    dropped, sentences = datasets.review_jobs(dataset, parts.items())
    parts |= _write_jobs(peers, dataset, folder, dropped)
    if peers.rank == 0:
        datasets.finish_dataset(dataset, folder, parts.items(), sentences)
    rows = dict.fromkeys((split for split, _ in jobs), 0)
    for job, part in parts.items():
        rows[job.split] += part.rows
    return rows


def _write_jobs(
    peers: Peers, dataset: datasets.Dataset, folder: Path, dropped: dict[datasets.Job, set[int]]
) -> dict[datasets.Job, PartSummary]:
    """Write the parts {job: rows to leave out}, which the workers share, and return {job: summary} of all."""
    own_jobs = sorted(dropped)[peers.rank :: peers.size]
    written = [(tuple(job), asdict(datasets.write_job(dataset, folder, *job, dropped[job]))) for job in own_jobs]
    shares = peers.gather(written)
    return {datasets.Job(*pair): PartSummary(**summary) for share in shares for pair, summary in share}
