"""augment: normalisation of each training split, pictures derived offline from the source, and a preview to look at.

Only the source gets derived copies: the target's few labels are cut into folds by the search, and a copy of a picture
that a fold holds out must not be trained on.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.files import write_json
from components.recipes import recipe
from components.storage.store import Store
from pipelines import flagship, prepare
from pipelines.flagship import AUGMENTED, PREPARED, ROLES
from pipelines.stage.context import stage

if TYPE_CHECKING:
    from components.training.peers import Peers


def main(params: dict[str, Any]) -> None:
    tasks = {role: params[verb]["task"] for role, verb in ROLES.items()}
    transforms = {role: online_transforms(task) for role, task in tasks.items()}
    tracked = {"augment": params["augment"], "training": transforms, "seed": params["seed"]}
    with stage("augment", params, tracked, [*map(flagship.prepared_folder, ROLES)]) as run:
        for role, rows in run.spread(
            write_augmented, PREPARED, AUGMENTED, params["augment"], transforms, params["seed"]
        ).items():
            run.log_text(f"{role}: statistics of {rows['examples']:,} training examples, {rows['derived']:,} derived")
            run.log_artifact(flagship.preview_file(role))


def online_transforms(task: dict[str, Any]) -> list[dict[str, Any]]:
    """What training makes of each picture, as the section `task` says: its `augment`, then its `mix`."""
    return [*(task.get("augment") or []), *([task["mix"]] if task.get("mix") else [])]


def write_augmented(
    peers: Peers, prepared: str, out: str, offline: dict[str, Any], online: dict[str, list[dict[str, Any]]], seed: int
) -> dict[str, dict[str, int]]:
    """On every worker, for each role: statistics, copies (of the source) and preview. {role: {examples, derived}}."""
    done = {}
    for role, transforms in online.items():
        store, folder = Store(f"{prepared}/{role}"), Path(out) / role
        copies = offline["copies"] if role == "source" else 0
        done[role] = {
            "examples": write_statistics(peers, store, folder),
            "derived": write_copies(peers, store, folder, offline["transforms"], copies, seed),
        }
        if peers.rank == 0:
            draw_preview(store, folder / "preview.png", transforms, seed)
    return done


def write_statistics(peers: Peers, store: Store, folder: Path) -> int:
    """Writes statistics.json of the training split, its examples shared between the workers; returns how many.

    Of pictures with their profile, by which new data are compared with those a model was trained on.
    """
    from components.storage.moments import Moments, compute_moments
    from components.storage.profile import Profile, compute_profile

    train = store.split("train")
    found: dict[str, Any] = {"count": len(train)}
    if "image" in train.columns:
        found |= reduce(Moments.merge, peers.gather(compute_moments(train, peers.rank, peers.size))).finish()
        found["profile"] = reduce(Profile.merge, peers.gather(compute_profile(train, peers.rank, peers.size))).finish()
    if peers.rank == 0:
        write_json(folder / "statistics.json", found)
    return len(train)


def write_copies(
    peers: Peers, store: Store, folder: Path, transforms: list[dict[str, Any]], copies: int, seed: int
) -> int:
    """Writes `copies` changed copies of the training split as a data set of their own; returns how many pictures."""
    from components.augment.copies import Copies

    if copies == 0:
        return 0
    changes = [recipe.build(section) for section in transforms]
    return prepare.write_data_set(peers, Copies(store, changes, copies, seed), folder)["train"]


def draw_preview(store: Store, path: Path, transforms: list[dict[str, Any]], seed: int) -> None:
    """Draws what training makes of some pictures, from a random stream of its own."""
    from components.drawings.preview import draw_preview as draw

    draw(path, store, [recipe.build(section) for section in transforms], seed)
