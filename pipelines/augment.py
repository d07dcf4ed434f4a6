"""Compute statistics of each training split, derive pictures from the source, and draw what training will see.

Only the source gets derived copies. The search cuts the target's few labels into folds, and a copy of a held-out
picture must not be trained on.
"""

from __future__ import annotations

from typing import Any

from pipelines import flagship
from pipelines.flagship import AUGMENTED, PREPARED, ROLES
from pipelines.stage.context import stage
from pipelines.workers.augmentation import online_transforms


def main(params: dict[str, Any]) -> None:
    """Run the stage: write statistics, copies and previews of both data sets."""
    online = {role: online_transforms(params[trainer]["task"]) for role, trainer in ROLES.items()}
    offline, seed = params["augment"], params["seed"]
    tracked = {"augment": offline, "training": online, "seed": seed}
    with stage("augment", params, tracked, [*map(flagship.prepared_folder, ROLES)]) as run:
        arguments = (PREPARED, AUGMENTED, offline, online, seed)
        written = run.spread("pipelines.workers.augmentation.write_augmented", *arguments)
        for role, counts in written.items():
            examples, derived = counts["examples"], counts["derived"]
            run.log_text(f"{role}: statistics of {examples:,} training examples, {derived:,} derived")
            run.log_artifact(flagship.preview_file(role))
