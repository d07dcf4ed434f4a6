"""`trainyard compare pipelines/vision`: compare the systems of a family, from the files that their runs wrote.

Print a table, and write it with a picture into results/<family>/. `--records` compares the records over seeds that
`trainyard results --measure` keeps instead. `--readme` also writes the table into the family's README.md, between the
lines of MARKS, and the picture beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.drawings import figures
from components.drawings.costs import draw_costs
from components.drawings.figures import Interval
from components.errors import Refusal
from components.recipes import recipe
from components.recipes.signature import class_constant
from components.safe_text import escape_markdown
from pipelines.commands.results.marked_page import insert_text
from pipelines.commands.results.record import format_spread, read_record
from pipelines.stage.outputs import read_json

RESULTS = Path("results")
MARKS = ("<!-- trainyard compare -->", "<!-- end of trainyard compare -->")
PICTURE = "comparison.png"
COLUMNS = (  # key in cost.json, title, format
    ("parameters", "parameters", "{:,.0f}"),
    ("flops", "MFLOPs per picture", "{:,.2f}"),
    ("predict_seconds", "ms per picture", "{:,.1f}"),
    ("train_seconds", "seconds", "{:,.1f}"),
    ("samples_per_second", "samples/s", "{:,.0f}"),
)
SCALES = {"flops": 1e-6, "predict_seconds": 1e3}  # key in cost.json -> the unit of its column
SHOWN_BESIDE = 3  # scores that a table of records shows at most


@dataclass(frozen=True)
class Row:
    """The scores and the cost of one system."""

    system: str
    data: str
    scores: dict[str, Interval]  # the compared score first; a record's interval is its range over seeds
    cost: dict[str, float]  # as in cost.json
    seeds: int = 0  # of a record; 0 for a run


def main(family: str, readme: bool = False, records: bool = False) -> int:
    """Print and write the comparison of the systems in the folder `family`; with `readme` also into its README.md.

    records: compare the records over seeds in docs/records, not the runs of this working copy.
    """
    folder = Path(family)
    if not (folder / "dvc.yaml").is_file():
        raise Refusal(f"{family}: is not a family of recipes; name a folder such as pipelines/vision")
    rows = read_records(folder) if records else read_runs(folder)
    score = next(iter(rows[0].scores))
    text = format_table(rows)
    print(text)
    results = RESULTS / folder.name
    results.mkdir(parents=True, exist_ok=True)
    (results / "comparison.md").write_text(text + "\n", encoding="utf-8")
    points = {row.system: (row.cost["flops"], row.scores[score]) for row in rows if row.cost.get("flops")}
    if points:
        title = f"{folder.name}: {_describe_score(score, rows)}"
        drawing = draw_costs(points, title, "floating-point operations per prediction", score)
        figures.save_figure(drawing, results / PICTURE)
        text += f"\n\n![{score} against cost]({PICTURE})"
    if readme:
        page = folder / "README.md"
        insert_text(page, MARKS, text)
        if points:
            (folder / PICTURE).write_bytes((results / PICTURE).read_bytes())
        print(f"\nwritten into {page}")
    if not records:
        print("\nthe same runs in MLflow, curves overlaid: trainyard ui")
    return 0


def _describe_score(score: str, rows: list[Row]) -> str:
    split = "the test split of each system's data" if _has_several_data_sets(rows) else "the test split"
    if not any(row.scores[score].low < row.scores[score].high for row in rows):
        return f"{score} on {split}"
    return f"{score} on {split}, {'range over seeds' if rows[0].seeds else '95 % intervals'}"


def _list_recipes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.yaml") if path.name != "dvc.yaml")


def read_runs(folder: Path) -> list[Row]:
    """Return one row per system with results in this working copy, best first on each data set.

    A score that is a mean over examples has an interval: NAME, NAME_low and NAME_high in metrics.json. Of several
    shared ones take the first in alphabetical order. Without any, take the score that all tasks monitor.
    Raise Refusal without results or without such a score.
    """
    runs: dict[Path, tuple[dict[str, float], dict[str, float]]] = {}
    for path in _list_recipes(folder):
        results = RESULTS / folder.name / path.stem
        metrics = read_json(str(results / "metrics.json"))
        if metrics is not None:
            runs[path] = metrics, read_json(str(results / "cost.json")) or {}
    if not runs:
        raise Refusal(f"{RESULTS / folder.name}: no results yet; run dvc repro {folder / 'dvc.yaml'}")
    score, highest_first = _shared_score(folder, {path: metrics for path, (metrics, _) in runs.items()})
    rows = []
    for path, (metrics, cost) in runs.items():
        value = metrics[score]
        interval = Interval(value, metrics.get(f"{score}_low", value), metrics.get(f"{score}_high", value))
        rows.append(Row(path.stem, _data_name(path), {score: interval}, cost))
    return _sort_rows(rows, highest_first)


def _shared_score(folder: Path, runs: dict[Path, dict[str, float]]) -> tuple[str, bool]:
    """Return the score to compare, and whether the highest is the best."""
    with_intervals = [
        {key.removesuffix("_low") for key in metrics if key.endswith("_low")} for metrics in runs.values()
    ]
    shared = sorted(set.intersection(*with_intervals))
    monitors = {_monitored_score(path) for path in runs}
    if not shared and len(monitors) == 1:
        shared = [name for name, _ in monitors if all(name in metrics for metrics in runs.values())]
    if not shared:
        raise Refusal(f"{folder}: its systems share no score; nothing to compare")
    return shared[0], (shared[0], "min") not in monitors


def read_records(folder: Path) -> list[Row]:
    """Return one row per system with a record over seeds, best first on each data set.

    Compared is the score that all records monitor, with the others that they share beside it.
    """
    records = {path: record for path in _list_recipes(folder) if (record := read_record(path))}
    if not records:
        raise Refusal(f"{folder}: no records yet; make one: trainyard results --measure {folder}/SYSTEM.yaml --seeds 3")
    monitors = {record.monitor for record in records.values()}
    if len(monitors) > 1:
        raise Refusal(f"{folder}: its records monitor different scores: {', '.join(sorted(monitors))}")
    shared = set.intersection(*(set(record.scores) for record in records.values())) - monitors - {"loss"}
    names = [*monitors, *sorted(shared)[:SHOWN_BESIDE]]
    highest_first = next(iter(records.values())).direction == "max"
    rows = []
    for path, record in records.items():
        scores = {name: _interval_over_seeds(record.scores[name]) for name in names}
        seconds = {"train_seconds": sum(record.seconds) / len(record.seconds)}
        rows.append(Row(path.stem, _data_name(path), scores, record.cost | seconds, len(record.seeds)))
    return _sort_rows(rows, highest_first)


def _interval_over_seeds(values: list[float]) -> Interval:
    return Interval(sum(values) / len(values), min(values), max(values), tuple(values))


def _sort_rows(rows: list[Row], highest_first: bool) -> list[Row]:
    sign = -1 if highest_first else 1
    return sorted(rows, key=lambda row: (row.data, sign * next(iter(row.scores.values())).value))


def _data_name(path: Path) -> str:
    """Return the name of the data of the recipe at `path`: its folder's, or the innermost data set's file."""
    section = recipe.load(path).get("data") or {}
    while isinstance(section.get("of"), dict):
        section = section["of"]
    return Path(section["folder"]).name if "folder" in section else str(section.get("use", "")).split(".")[-2:][0]


def _has_several_data_sets(rows: list[Row]) -> bool:
    return len({row.data for row in rows}) > 1


def _monitored_score(path: Path) -> tuple[str, str]:
    """Return the score that the task of the recipe at `path` monitors, and "max" or "min"; ("", "") if unknown.

    They are read from the task's source, because an import would take seconds.
    """
    section = recipe.load(path).get("task")
    unknown = ("", "")
    if not isinstance(section, dict) or "use" not in section:
        return unknown
    monitor: tuple[str, str] = class_constant(section["use"], "monitor", unknown)
    return monitor


def format_table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table, with their data sets where these differ."""
    several, of_records = _has_several_data_sets(rows), bool(rows[0].seeds)
    columns = [(key, title, form) for key, title, form in COLUMNS if any(key in row.cost for row in rows)]
    titles = ["system", *(["data"] if several else []), *rows[0].scores, *(["seeds"] if of_records else [])]
    titles += [title for _, title, _ in columns]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [escape_markdown(row.system), *([row.data] if several else [])]
        cells += [_format_score(interval) for interval in row.scores.values()]
        cells += [str(row.seeds)] if of_records else []
        for key, _, form in columns:
            cells.append(form.format(row.cost[key] * SCALES.get(key, 1)) if key in row.cost else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_score(interval: Interval) -> str:
    """Return a score with its interval, or with its standard deviation over the seeds of a record."""
    if interval.points:
        return format_spread(interval.points)
    bounds = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low < interval.high else ""
    return f"{interval.value:.4f}{bounds}"
