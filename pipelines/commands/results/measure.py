"""Measure a recipe over its seeds, and write its record."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.recipes import recipe
from pipelines.commands.results.expectation import read_expectation
from pipelines.commands.results.fits import describe_processor, measure_fits, measuring_folder, use_one_thread
from pipelines.commands.results.record import add_seeds, content_digest, read_record, record_path, write_record
from pipelines.commands.results.searches import measure_search
from pipelines.stage.check import check_recipe
from pipelines.stage.progress import Progress


def measure_recipe(path: Path, seeds: int | None = None, add: bool = False) -> Path:
    """Measure the recipe at `path` over `seeds` seeds (default: as its header says) and return its record's path.

    add: keep the seeds that the record has, and run the others. A refusal follows if the recipe has changed since, or
    the record is of other hardware.
    """
    expectation = read_expectation(path)
    count = seeds or (expectation.seeds if expectation else None)
    if count is None:
        raise Refusal(f"{path}: its line '# Expect:' names no number of seeds; name it there, or with --seeds")
    content = recipe.load(path)
    check_recipe(content, str(path))
    first = content.get("seed", 0)
    all_seeds = list(range(first, first + count))
    of_data = bool(expectation and expectation.of_data)
    if not add and "tune" not in content:
        _announce_loss(path, count)
    with Progress(path.stem, measuring_folder(path)):
        if add:
            return add_missing_seeds(path, content, all_seeds, of_data)
        if "tune" in content:
            return write_record(path, measure_search(path, content))
        return write_record(path, measure_fits(path, content, all_seeds, of_data))


def _announce_loss(path: Path, count: int) -> None:
    """Say so if the record at hand has more seeds than `count`; a damaged one is replaced without a word."""
    with suppress(Refusal):
        earlier = read_record(path)
        if earlier is not None and len(earlier.seeds) > count:
            print(f"{path}: {count} of {len(earlier.seeds)} recorded seeds are measured again, the others dropped")


def add_missing_seeds(path: Path, content: dict[str, Any], seeds: list[int], of_data: bool = False) -> Path:
    """Run those of `seeds` that the recipe's record lacks, write the record after each of them; return its path."""
    record = read_record(path)
    again = "measure all seeds: leave out --add"
    if "tune" in content:
        raise Refusal(f"{path}: a search is measured once; its repetitions are its folds or seeds; leave out --add")
    if record is None:
        raise Refusal(f"{path}: has no record to add seeds to; {again}")
    if record.recipe != content_digest(path):
        raise Refusal(f"{path}: has changed since its record was made; {again}")
    use_one_thread()  # before the hardware is compared, which tells the number of threads
    if record.hardware != describe_processor():
        raise Refusal(f"{path}: its record was made on {record.hardware}, and this is {describe_processor()}; {again}")
    missing = [seed for seed in seeds if seed not in record.seeds]
    if not missing:
        raise Refusal(f"{path}: its record has these {len(seeds)} seeds already; ask for more with --seeds")
    for seed in missing:
        record = add_seeds(record, measure_fits(path, content, [seed], of_data))
        write_record(path, record)
    return record_path(path)
