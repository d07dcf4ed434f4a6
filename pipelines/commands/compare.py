"""`trainyard compare pipelines/vision`: compare the systems of a family, from the files that their runs wrote.

Print a table, and write it with a picture into results/<family>/. `--readme` also writes the table into the family's
README.md, between the lines of MARKS, and the picture beside it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from components.drawings import figures
from components.drawings.costs import draw_costs
from components.drawings.figures import Interval
from components.errors import Refusal
from components.recipes import recipe
from components.recipes.signature import find_definition
from components.safe_text import escape_markdown
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
Rows = list[dict[str, Any]]  # {system, data, score: Interval, metrics} and the content of cost.json


def main(family: str, readme: bool = False) -> int:
    """Print and write the comparison of the systems in the folder `family`; with `readme` also into its README.md."""
    folder = Path(family)
    if not (folder / "dvc.yaml").is_file():
        raise Refusal(f"{family}: is not a family of recipes; name a folder such as pipelines/vision")
    score, rows = read_family(folder)
    text = format_table(score, rows)
    print(text)
    results = RESULTS / folder.name
    (results / "comparison.md").write_text(text + "\n", encoding="utf-8")
    points = {row["system"]: (row["flops"], row["score"]) for row in rows if row.get("flops")}
    if points:
        has_intervals = any(row["score"].low < row["score"].high for row in rows)
        split = "the test split of each system's data" if _has_several_data_sets(rows) else "the test split"
        title = f"{folder.name}: {score} on {split}{', 95 % intervals' if has_intervals else ''}"
        drawing = draw_costs(points, title, "floating-point operations per prediction", score)
        figures.save_figure(drawing, results / PICTURE)
        text += f"\n\n![{score} against cost]({PICTURE})"
    if readme:
        page = folder / "README.md"
        page.write_text(_insert_text(page, text), encoding="utf-8")
        if points:
            (folder / PICTURE).write_bytes((results / PICTURE).read_bytes())
        print(f"\nwritten into {page}")
    print("\nthe same runs in MLflow, curves overlaid: trainyard ui")
    return 0


def read_family(folder: Path) -> tuple[str, Rows]:
    """Return the score that all systems share, and one row per system with results, best first on each data set.

    A score that is a mean over examples has an interval: NAME, NAME_low and NAME_high in metrics.json. Of several
    shared ones take the first in alphabetical order. Without any, take the score that all tasks monitor.
    Raise Refusal without results or without such a score.
    """
    rows: Rows = []
    scores: list[set[str]] = []
    monitors: set[str] = set()
    for path in sorted(p for p in folder.glob("*.yaml") if p.name != "dvc.yaml"):
        results = RESULTS / folder.name / path.stem
        metrics = read_json(str(results / "metrics.json"))
        if metrics is not None:
            cost = read_json(str(results / "cost.json")) or {}
            rows.append({"system": path.stem, "data": _data_name(path), "metrics": metrics, **cost})
            scores.append({key.removesuffix("_low") for key in metrics if key.endswith("_low")})
            monitors.add(_monitored_score(path))
    if not rows:
        raise Refusal(f"{RESULTS / folder.name}: no results yet; run dvc repro {folder / 'dvc.yaml'}")
    shared = sorted(set.intersection(*scores))
    if not shared and len(monitors) == 1:
        shared = [name for name in monitors if all(name in row["metrics"] for row in rows)]
    if not shared:
        raise Refusal(f"{folder}: its systems share no score; nothing to compare")
    score = shared[0]
    for row in rows:
        value = row["metrics"][score]
        row["score"] = Interval(value, *(row["metrics"].get(f"{score}_{end}", value) for end in ("low", "high")))
    return score, sorted(rows, key=lambda row: (row["data"], -row["score"].value))


def _data_name(path: Path) -> str:
    """Return the name of the data of the recipe at `path`: its folder's, or the innermost data set's file."""
    section = recipe.load(path).get("data") or {}
    while isinstance(section.get("of"), dict):
        section = section["of"]
    return Path(section["folder"]).name if "folder" in section else str(section.get("use", "")).split(".")[-2:][0]


def _has_several_data_sets(rows: Rows) -> bool:
    return len({row["data"] for row in rows}) > 1


def _monitored_score(path: Path) -> str:
    """Return the score that the task of the recipe at `path` monitors, read from the task's source; "" if unknown."""
    section = recipe.load(path).get("task")
    if not isinstance(section, dict) or "use" not in section:
        return ""
    for item in find_definition(section["use"])[2].body:
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == "monitor" and item.value is not None:
            return str(ast.literal_eval(item.value)[0])
    return ""


def format_table(score: str, rows: Rows) -> str:
    """Return the rows as a Markdown table, with their data sets where these differ."""
    several = _has_several_data_sets(rows)
    titles = ["system", *(["data"] if several else []), score, *(title for _, title, _ in COLUMNS)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        interval = row["score"]
        text = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low < interval.high else ""
        cells = [escape_markdown(row["system"]), *([row["data"]] if several else []), f"{interval.value:.4f}{text}"]
        for key, _, form in COLUMNS:
            value = row.get(key)
            if value is None:
                cells.append("-")
            else:
                cells.append(form.format(value * SCALES.get(key, 1)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _insert_text(readme: Path, text: str) -> str:
    """Return the content of `readme` with `text` between the lines of MARKS."""
    content = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, _, rest = content.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise Refusal(f"{readme}: --readme: lacks the line '{MARKS[0]}', or '{MARKS[1]}' after it; add them")
    return f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}"
