"""`trainyard inspect`: describe a folder or file, list all that is odd, and propose or write a recipe."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal, printable
from components.files import atomic_path
from components.inspection.findings import Findings, list_some
from components.inspection.recognise import inspect_path
from components.recipes import recipe
from components.storage.dataset import Dataset
from pipelines.stage import own_stages
from pipelines.stage.check import check_recipe
from pipelines.stage.own_stages import OWN

MOST_ODD = 40  # lines on the screen; the file lists all
MOST_WIDTH = 400  # characters of such a line
MOST_CLASSES = 20
INTERVAL = 0.5  # seconds between lines of progress


def main(path: str, write: str | None = None) -> int:
    """Print the findings about `path`; with `write`, write the recipe and its stage below pipelines/own."""
    if write is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]*", write):
        raise Refusal(f"--write: '{write}' must be a name of small letters, digits and -, such as my-pets")
    place = locate(Path(path))
    findings = inspect_path(place, Progress())
    print_findings(place, findings)
    folder = Path("reports/inspect")
    name = write or re.sub(r"[^a-z0-9]+", "-", printable(place.stem).lower()).strip("-") or "data"
    if findings.samples:
        print(f"\nsheet of examples: {draw_samples(findings, folder / f'{name}.png')}")
    if len(findings.odd) > MOST_ODD or any(len(line) > MOST_WIDTH for line in findings.odd):
        file = folder / f"{name}.txt"
        with atomic_path(file) as draft:
            draft.write_text("\n".join(findings.odd) + "\n", encoding="utf-8", errors="backslashreplace")
        print(f"the full list: {file}")
    content = findings.recipe
    fault = find_refusal(content)
    if fault is not None:
        print(f"\nthe proposed recipe would be refused: {fault}")
    if content is None or "task" not in content:
        remedy = "no recipe is proposed for this layout; docs/own-data.md lists what each layout needs"
        if write is not None:
            raise Refusal(f"{printable(place)}: {remedy}")
        print(remedy)
        return 0
    text = format_recipe(content, write or name, findings.layout)
    if write is not None and fault is not None:
        raise Refusal(fault)
    if write is None:
        print(f"\nproposed recipe (trainyard inspect {shlex.quote(path)} --write NAME writes it):\n\n{text}")
        return 0
    write_recipe(write, text, content, place)
    print(f"\nwritten: {OWN / f'{write}.yaml'} and its stage; run it:\n\n  dvc repro {OWN}/dvc.yaml:fit@{write}")
    return 0


def find_refusal(content: dict[str, Any] | None) -> str | None:
    """Return why the data of a proposed recipe would be refused, or None; lists the examples and reads none."""
    if content is None or "task" not in content:
        return None
    try:
        dataset = recipe.build(content["data"], Dataset)
        _ = dataset.parts(), dataset.classes
    except Refusal as refusal:
        return str(refusal)
    return None


def locate(path: Path) -> Path:
    """Return a path as recipes name it: relative within the repository, otherwise absolute."""
    absolute = Path(os.path.normpath(path.absolute()))
    here = Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) and absolute != here else absolute


class Progress:
    """A line of progress on a terminal, at most every INTERVAL seconds; in a file, nothing."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, subject: str, done: int, total: int) -> None:
        """Show that `done` of `total` files are examined."""
        now = time.monotonic()
        if sys.stderr.isatty() and (now - self.last > INTERVAL or done == total):
            self.last = now
            print(f"\r{subject}: {done:,} of {total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def print_findings(place: Path, findings: Findings) -> None:
    """Print the layout, the facts, the counts, all that is odd, and why the recipe is as it is."""
    print(f"{printable(place)}: {findings.layout}")
    for fact in findings.facts:
        print(f"  {fact}")
    for split, counts in findings.counts.items():
        listed = sorted(counts.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {count:,}" for name, count in listed[:MOST_CLASSES])
        more = f", ... ({len(listed):,} classes)" if len(listed) > MOST_CLASSES else ""
        print(f"  {split or 'all'}: {sum(counts.values()):,} ({shown}{more})")
    print(f"\nodd: {len(findings.odd):,}" if findings.odd else "\nodd: nothing")
    for line in list_some(findings.odd, MOST_ODD):
        shown = line if len(line) <= MOST_WIDTH else f"{line[:MOST_WIDTH]} ..."
        print(f"  {printable(shown)}")
    if findings.reasons:
        print("\nproposed:")
    for reason in findings.reasons:
        print(f"  {reason}")


def draw_samples(findings: Findings, file: Path) -> Path:
    """Draw the sheet of examples into `file` and return it."""
    from components.drawings import figures
    from components.drawings.sheet import draw_sheet

    pictures = [sample.picture for sample in findings.samples]
    captions = [printable(sample.caption) for sample in findings.samples]
    file.parent.mkdir(parents=True, exist_ok=True)
    return figures.save_figure(draw_sheet(pictures, captions, findings.layout), file)


def format_recipe(content: dict[str, Any], name: str, layout: str) -> str:
    """Return the text of a recipe."""
    header = [
        f"# What:   {layout}",
        f"# Run:    dvc repro {OWN}/dvc.yaml:fit@{name}",
        "# Expect: not measured yet; compare with the constant answer that the run prints",
        "# Time:   not measured yet",
    ]
    body = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "\n".join([*header, body])


def write_recipe(name: str, text: str, content: dict[str, Any], place: Path) -> None:
    """Write the recipe and its entry in pipelines/own/dvc.yaml; refuses a name that another recipe has."""
    check_recipe(content, f"{name}.yaml")
    file = own_stages.OWN / f"{name}.yaml"
    if file.exists():
        raise Refusal(f"--write: {file} exists; choose another name, or remove it")
    stages = own_stages.format_stages({**own_stages.read_places(), name: str(place)}, {name: content})
    with atomic_path(file) as draft:
        draft.write_text(text, encoding="utf-8")
    with atomic_path(own_stages.STAGES) as draft:
        draft.write_text(stages, encoding="utf-8")
