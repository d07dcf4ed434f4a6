"""Write data sets as Arrow files, on workers that share the parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import Refusal
from components.storage import dataset as datasets
from components.storage.object_store import ObjectStore
from components.storage.part import PartSummary
from components.storage.part_cache import PartAddress, PartCache
from components.storage.section import build_dataset, store_address

if TYPE_CHECKING:
    from components.training.peers import Peers


def write_data_sets(peers: Peers, sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Write the data sets {folder: section of a recipe}; return {folder: {split: rows}}."""
    return {folder: write_section(peers, section, Path(folder)) for folder, section in sections.items()}


def write_section(peers: Peers, section: dict[str, Any], folder: Path) -> dict[str, int]:
    """Write the data set of a recipe's section into `folder`; return {split: rows}."""
    # a data set may look for its original files as soon as it is built
    dataset = build_dataset(section) if peers.is_at_home else None
    return write_data_set(peers, dataset, folder, store_address(section))


def write_data_set(
    peers: Peers, dataset: datasets.Dataset | None, folder: Path, store: str | None = None
) -> dict[str, int]:
    """Write this worker's parts of a data set into `folder`, and on rank 0 the manifest; return {split: rows}.

    dataset: None on workers that do not share the driver's folder; they write nothing.
    store: the address of the object store to which each part is moved as soon as it is written.
    """
    # Rank 0 downloads before the others look for the original files.
    own_pairs = [tuple(job) for job in datasets.list_jobs(dataset)] if dataset is not None and peers.rank == 0 else None
    pairs = peers.broadcast(own_pairs)
    jobs = [datasets.Job(*pair) for pair in pairs]
    parts = _write_jobs(peers, dataset, folder, {job: set() for job in jobs}, store)
    dropped, sentences = _review_jobs(peers, dataset, parts)
    parts |= _write_jobs(peers, dataset, folder, dropped, store)
    if dataset is not None and peers.rank == 0:
        datasets.finish_dataset(dataset, folder, parts.items(), sentences, store)
    rows = dict.fromkeys((split for split, _ in jobs), 0)
    for job, part in parts.items():
        rows[job.split] += part.rows
    return rows


def _review_jobs(
    peers: Peers, dataset: datasets.Dataset | None, parts: dict[datasets.Job, PartSummary]
) -> tuple[dict[datasets.Job, set[int]], list[str]]:
    """Return what `review_jobs` returns; all workers raise the same refusal.

    Every worker reviews all parts. Where some do not share the driver's folder, and so lack the original files, rank 0
    reviews them for all.
    """
    if dataset is not None and peers.apart is None:
        return datasets.review_jobs(dataset, parts.items())
    answer: dict[str, Any] = {"refusal": ""}
    if dataset is not None and peers.rank == 0:
        try:
            dropped, sentences = datasets.review_jobs(dataset, parts.items())
            answer |= {"dropped": [(*job, sorted(rows)) for job, rows in dropped.items()], "sentences": sentences}
        except Refusal as refusal:
            answer["refusal"] = str(refusal)
    answer = peers.broadcast(answer)
    if answer["refusal"]:
        raise Refusal(answer["refusal"])
    rows_by_job = {datasets.Job(split, part): set(rows) for split, part, rows in answer["dropped"]}
    return rows_by_job, answer["sentences"]


def _write_jobs(
    peers: Peers,
    dataset: datasets.Dataset | None,
    folder: Path,
    dropped: dict[datasets.Job, set[int]],
    store: str | None,
) -> dict[datasets.Job, PartSummary]:
    """Write the parts {job: rows to leave out}, and return {job: summary} of all.

    The workers that see the driver's folder share the parts, because the original files are there.
    """
    written = []
    for job in peers.share_at_home(sorted(dropped)):
        assert dataset is not None, "built by all workers that share the driver's folder"
        summary = datasets.write_job(dataset, folder, *job, dropped[job])
        if store is not None:
            move_part(folder / summary.file, summary, ObjectStore(store))
        written.append((tuple(job), asdict(summary)))
    shares = peers.gather(written)
    return {datasets.Job(*pair): PartSummary(**summary) for share in shares for pair, summary in share}


def move_part(file: Path, summary: PartSummary, store: ObjectStore) -> None:
    """Move a part into an object store, under the name of its digest; parts that are there already stay as they are."""
    address = PartAddress(store.address, summary.sha256, summary.bytes, summary.rows, {})
    if store.size(address.name) != summary.bytes:
        store.write(address.name, file)
    # what was written here is mostly read here next
    PartCache.from_environment().add(address, file)
    file.unlink(missing_ok=True)
