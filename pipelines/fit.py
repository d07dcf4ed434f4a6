"""fit: one recipe of a family, from its data to an exported, scored model, in one visit to the workers.

Data prepared for one recipe serve every other that names the same data.
"""

from __future__ import annotations

from pathlib import Path

from components import recipe
from pipelines import training
from pipelines.check import check_recipe
from pipelines.stage import code_digest, history, stage, work, write_json

RESULTS = Path("results")


def main(path: str) -> None:
    given = recipe.load(path)
    check_recipe(given, path)
    family, system = Path(path).parent.name, Path(path).stem
    out, seed = RESULTS / family / system, given.get("seed", 0)
    data = work() / "prepared" / recipe.digest([given["data"], code_digest()])[:16]
    with stage("fit", {"name": family, **given}, given, [], title=system) as run:
        section = {"task": given["task"], "fit": given["fit"]}
        fit = {"section": section, "run": str(run.folder), "out": str(out / "model"), "seed": seed}
        scores = run.spread(training.from_data_to_scores, given["data"], str(data), fit)
        history(out / "history.csv", {system: run.folder})
        write_json(out / "metrics.json", scores)
        run.journal.write("metric", step=0, values={f"test/{name}": value for name, value in scores.items()})
        run.tell("test " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
