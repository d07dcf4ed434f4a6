"""Show the results of a user's own recipes as a section of the report: scores, pictures and mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.drawings.page import Block, Folded, Picture, Section, Table, Text
from pipelines.stage.outputs import format_value, read_json

RESULTS = Path("results/own")
SHOWN = 3  # results with pictures, the newest; more would make the page too large
MOST_SCORES = 6  # in the table; further ones are those of single classes
PICTURES = (".png", ".svg")


def own_sections() -> list[Section]:
    """Return the section of the own recipes' results, or [] where none has run."""
    return [Section("Your own data", list(_own_blocks()))] if _list_results() else []


def _list_results() -> list[Path]:
    """Return the folders of results, the newest first."""
    metrics = sorted(RESULTS.glob("*/metrics.json"), key=lambda file: (-file.stat().st_mtime, file))
    return [file.parent for file in metrics]


def _own_blocks() -> Iterator[Block]:
    folders = _list_results()
    rows = []
    for folder in folders:
        scores = read_json(f"{folder}/metrics.json")
        cost = read_json(f"{folder}/cost.json") or {}
        text = ", ".join(f"{name} {format_value(value)}" for name, value in list(scores.items())[:MOST_SCORES])
        rows.append([folder.name, text, f"{cost.get('train_seconds', 0):,.0f}"])
    yield Table(["recipe", "scores on the test split", "seconds of training"], rows, text_columns=(1,))
    for folder in folders[:SHOWN]:
        yield Text(f"`{folder.name}`: `trainyard run pipelines/own/dvc.yaml:fit@{folder.name}` runs it again.")
        for file in sorted((folder / "pictures").glob("*")):
            name = f"{folder.name}: {file.stem}"
            if file.suffix in PICTURES:
                yield Picture(file, name, name)
            else:
                yield Folded(name, file.read_text(encoding="utf-8", errors="replace"))
    if len(folders) > SHOWN:
        yield Text(f"The pictures of the others are in `{RESULTS}`.", quiet=True)
