"""Measure the doors to a user's own data on public sets: `python -m benchmarks.doors [NAME ...]`.

Each set at hand below data/raw is inspected, an archive after unpacking it. The recipe that `trainyard inspect --write`
would write is fitted once, on one thread. The figures go into docs/doors.json, and from there into the table of
docs/own-data.md.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal
from components.files import read_object, write_json
from components.inspection.findings import list_tree
from components.inspection.recognise import inspect_path
from components.workspace import work_folder
from pipelines.commands.results.fits import measure_fits
from pipelines.commands.results.marked_page import insert_text
from pipelines.commands.results.record import shorten_numbers

RAW = Path("data/raw")
RECORDS = Path("docs/doors.json")
PAGE = Path("docs/own-data.md")
MARKS = ("<!-- benchmarks.doors -->", "<!-- end of benchmarks.doors -->")
TITLES = ("set", "what lies there", "files", "inspect, s", "test score", "constant answer", "fit, s")
SETS = (
    *("sms-spam", "sst2", "rte", "stsb", "multi30k", "timemachine"),
    *("raccoon", "bccd", "nuclei", "camvid", "cifar10-jpeg"),
)
SCORES = ("macro_f1", "map50", "mean_iou", "bleu", "perplexity", "mae", "spearman", "accuracy")  # the first is shown


def main(names: Sequence[str]) -> int:
    """Measure the sets of these names (none: all), write their records and the table; return 1 if one was refused."""
    records: dict[str, Any] = read_object(RECORDS) if RECORDS.is_file() else {}
    refused = 0
    for name in names or [name for name in SETS if (RAW / name).exists()]:
        try:
            records[name] = measure_door(RAW / name)
        except Refusal as refusal:
            print(f"{name}: {refusal}", file=sys.stderr)
            refused = 1
        else:
            write_json(RECORDS, dict(sorted(records.items())))
            print(format_row(name, records[name]), flush=True)
    write_table(records)
    return refused


def measure_door(place: Path) -> dict[str, Any]:
    """Return the figures of a set: of its inspection, and those of one fit as `trainyard results` records them."""
    place = unpack(place)
    started = time.monotonic()
    findings = inspect_path(place, lambda subject, done, total: None)
    seconds = time.monotonic() - started
    if findings.recipe is None:
        raise Refusal(f"{place}: no recipe is proposed ({findings.layout})")
    recipe = work_folder() / "doors" / f"{place.name}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump(findings.recipe, sort_keys=False), encoding="utf-8")
    record = asdict(measure_fits(recipe, findings.recipe, [0]))
    facts = {"layout": findings.layout, "files": len(list_tree(place).files), "inspect_seconds": seconds}
    return shorten_numbers(facts | record)


def unpack(place: Path) -> Path:
    """Return the folder of a set's files; those of an archive are unpacked into a folder of ours."""
    files = [file for file in place.iterdir() if not file.name.startswith(".")]
    if len(files) != 1 or not any(files[0].name.endswith(suffix) for suffix in (".zip", ".tar", ".tar.gz", ".tar.xz")):
        return place
    folder = work_folder() / "doors" / place.name
    if not folder.is_dir():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.unpack_archive(files[0], draft, filter=None if files[0].suffix == ".zip" else "data")
        draft.rename(folder)
    return folder


def format_row(name: str, record: dict[str, Any]) -> str:
    """Return a set's line of the table."""
    score = next(score for score in (*SCORES, record["monitor"]) if score in record["scores"])
    constant = record["baselines"].get("constant")
    cells = [
        name,
        record["layout"].partition(" (")[0],
        f"{record['files']:,}",
        f"{record['inspect_seconds']:.1f}",
        f"{score} {record['scores'][score][0]:.3g}",
        "-" if constant is None else f"{record['monitor']} {constant:.3g}",
        f"{record['seconds'][0]:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def write_table(records: dict[str, Any]) -> None:
    """Write the table between the marks of the page; refuse a page without them."""
    rows = [format_row(name, record) for name, record in records.items()]
    hardware = sorted({record["hardware"] for record in records.values()})
    commits = sorted({record["commits"][0] for record in records.values()})
    table = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|", *rows]
    source = f"Seed 0. Inspection without the start of the command; fits in processor seconds of {', '.join(hardware)}"
    source = f"{source}; code of {', '.join(commits)}."
    insert_text(PAGE, MARKS, "\n".join([*table, "", source]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
