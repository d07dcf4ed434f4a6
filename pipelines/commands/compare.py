"""`trainyard compare pipelines/vision`: the systems of a family side by side, from the files that their runs wrote.

Prints a table, and writes it with a picture into results/<family>/. `--readme` puts both into the family's README.md,
between the lines of MARKS, the picture beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.drawings import figures
from components.drawings.costs import draw_costs
from components.drawings.figures import Interval
from components.errors import Refusal
from pipelines.stage.outputs import read_json

RESULTS = Path("results")
MARKS = ("<!-- trainyard compare -->", "<!-- end of trainyard compare -->")
PICTURE = "comparison.png"
COLUMNS = (  # key in cost.json, title, how it is written
    ("parameters", "parameters", "{:,.0f}"),
    ("flops", "MFLOPs a picture", "{:,.2f}"),
    ("train_seconds", "seconds", "{:,.1f}"),
    ("samples_per_second", "samples/s", "{:,.0f}"),
)
Rows = list[dict[str, Any]]  # system, score (an Interval), and what cost.json holds


def main(family: str, readme: bool = False) -> int:
    folder = Path(family)
    if not (folder / "dvc.yaml").is_file():
        raise Refusal(f"{family}: no family of recipes; name a folder such as pipelines/vision")
    name, rows = read_family(folder)
    text = format_table(name, rows)
    print(text)
    out = RESULTS / folder.name
    (out / "comparison.md").write_text(text + "\n", encoding="utf-8")
    shown = {row["system"]: (row["flops"], row["score"]) for row in rows if row.get("flops")}
    if shown:
        title = f"{folder.name}: {name} on the test split, 95 % intervals"
        figures.save_figure(draw_costs(shown, title, "floating-point operations a prediction", name), out / PICTURE)
    if readme:
        page = folder / "README.md"
        whole = _inserted(page, f"{text}\n\n![{name} against cost]({PICTURE})" if shown else text)
        page.write_text(whole, encoding="utf-8")
        if shown:
            (folder / PICTURE).write_bytes((out / PICTURE).read_bytes())
        print(f"\nwritten into {page}")
    print("\nthe same runs in MLflow, curves overlaid: trainyard ui")
    return 0


def read_family(folder: Path) -> tuple[str, Rows]:
    """The name of the score that all have in common, and a row for each system with results, the best first."""
    rows: Rows = []
    names: list[set[str]] = []
    for path in sorted(p for p in folder.glob("*.yaml") if p.name != "dvc.yaml"):
        place = RESULTS / folder.name / path.stem
        metrics = read_json(str(place / "metrics.json"))
        if metrics is not None:
            rows.append({"system": path.stem, "metrics": metrics} | (read_json(str(place / "cost.json")) or {}))
            names.append({key.removesuffix("_low") for key in metrics if key.endswith("_low")})
    if not rows:
        raise Refusal(f"{RESULTS / folder.name}: no results yet; run dvc repro {folder / 'dvc.yaml'}")
    if not (shared := sorted(set.intersection(*names))):
        raise Refusal(f"{folder}: its systems have no score in common whose interval is known; nothing to compare")
    for row in rows:
        row["score"] = Interval(*(row["metrics"][f"{shared[0]}{end}"] for end in ("", "_low", "_high")))
    return shared[0], sorted(rows, key=lambda row: -row["score"].value)


def format_table(name: str, rows: Rows) -> str:
    lines = ["| system | " + " | ".join([name, *(title for _, title, _ in COLUMNS)]) + " |"]
    lines.append("|---|" + "---|" * (len(COLUMNS) + 1))
    for row in rows:
        score = row["score"]
        cells = [f"{score.value:.4f} [{score.low:.3f}, {score.high:.3f}]"]
        for key, _, form in COLUMNS:
            value = row.get(key)
            cells.append("-" if value is None else form.format(value / 1e6 if key == "flops" else value))
        lines.append(f"| {row['system']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _inserted(readme: Path, text: str) -> str:
    before, _, rest = (readme.read_text(encoding="utf-8") if readme.is_file() else "").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise Refusal(f"{readme}: --readme: lacks the line '{MARKS[0]}', or '{MARKS[1]}' behind it; add them")
    return f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}"
