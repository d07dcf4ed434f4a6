"""augment: normalisation of each training split, pictures derived offline from the source, and a preview to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import recipe
from components.augment import offline
from components.data.store import Store, write_manifest
from components.peers import Peers
from pipelines.stage import stage, write_json

PREPARED, OUT = "data/prepared", "data/augmented"
PARTS = 8  # part files of derived pictures: a property of the output, not of the number of workers


def main(params: dict[str, Any]) -> None:
    inputs = [f"{PREPARED}/{role}" for role in ("source", "target")]
    previews = {"source": params["pretrain"]["task"], "target": params["finetune"]["task"]}
    tracked = {"augment": params["augment"], "seed": params["seed"]}
    with stage("augment", params, tracked, inputs) as run:
        section = params["augment"]
        counts = run.spread(derive, PREPARED, OUT, section["transforms"], section["copies"], params["seed"])
        run.spread(preview, PREPARED, OUT, {r: task.get("augment", []) for r, task in previews.items()}, params["seed"])
        for role, count in counts.items():
            run.tell(f"{role}: statistics of {count['examples']:,} training examples, {count['derived']:,} derived")
            run.artifact(f"{OUT}/{role}/preview.png")
