"""Turn original files into Arrow files and a manifest; the workers share the parts."""

from __future__ import annotations

from typing import Any

from components.storage.store import Store
from components.verdicts.caveats import describe_data
from pipelines import flagship
from pipelines.stage.context import stage

MAX_WORKERS = 8  # unless the environment says how many


def main(params: dict[str, Any]) -> None:
    """Run the stage: write both data sets, and report their rows."""
    sections = {flagship.prepared_folder(role): params["data"][role] for role in flagship.ROLES}
    with stage("prepare", params, {"data": params["data"]}, inputs=[]) as run:
        written = run.spread("pipelines.workers.preparation.write_data_sets", sections, parts=MAX_WORKERS)
        for folder, rows in written.items():
            run.log_text(f"{folder}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} examples")
            for sentence in describe_data(Store(folder).manifest):
                run.log_text(f"{folder}: {sentence}")
