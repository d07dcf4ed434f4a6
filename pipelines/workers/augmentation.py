"""Write what `augment` derives from prepared data: statistics, changed copies and a preview.

The drivers import this module for `online_transforms`, so torch and matplotlib are imported inside the functions.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.augment.copies import Transform
from components.files import write_json
from components.recipes import recipe
from components.storage.store import Store
from pipelines.workers.preparation import write_data_set

if TYPE_CHECKING:
    from components.training.peers import Peers


def online_transforms(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sections of what training does to each picture: the task's `augment`, then its `mix`."""
    transforms = list(task.get("augment") or [])
    if task.get("mix"):
        transforms.append(task["mix"])
    return transforms


def write_augmented(
    peers: Peers, prepared: str, out: str, offline: dict[str, Any], online: dict[str, list[dict[str, Any]]], seed: int
) -> dict[str, dict[str, int]]:
    """Write statistics, copies and preview of each role below `out`; return {role: {examples, derived}}.

    prepared: the folder above the roles' data. offline: {copies, transforms}, for the source alone. online: {role: what
    training does to each picture}.
    """
    counts = {}
    peers.hand_over(*(f"{prepared}/{role}" for role in online))
    for role, transforms in online.items():
        store, folder = Store(f"{prepared}/{role}"), Path(out) / role
        copies = offline["copies"] if role == "source" else 0
        counts[role] = {
            "examples": write_statistics(peers, store, folder),
            "derived": write_copies(peers, store, folder, offline["transforms"], copies, seed),
        }
        if peers.rank == 0:
            write_preview(store, folder / "preview.png", transforms, seed)
    return counts


def write_statistics(peers: Peers, store: Store, folder: Path) -> int:
    """Write statistics.json of the training split, whose examples the workers share; return their number.

    Pictures also get a profile, with which later data are compared.
    """
    from components.storage.column_statistics import measure_columns
    from components.storage.moments import Moments, compute_moments
    from components.storage.profile import Profile, compute_profile

    train = store.split("train")
    statistics: dict[str, Any] = {"count": len(train)}
    if "image" in train.columns:
        moments = peers.gather(compute_moments(train, peers.rank, peers.size).record())
        statistics |= reduce(Moments.merge, (Moments.from_record(*share) for share in moments)).finish()
        profiles = peers.gather(compute_profile(train, peers.rank, peers.size).record())
        statistics["profile"] = reduce(Profile.merge, (Profile.from_record(*share) for share in profiles)).finish()
    if peers.rank == 0:
        statistics |= measure_columns(train)
        write_json(folder / "statistics.json", statistics)
    return len(train)


def write_copies(
    peers: Peers, store: Store, folder: Path, transforms: list[dict[str, Any]], copies: int, seed: int
) -> int:
    """Write `copies` changed copies of the training split as a data set in `folder`; return their number."""
    from components.augment.copies import Copies

    if copies == 0:
        return 0
    changes = [recipe.build(section, Transform) for section in transforms]
    return write_data_set(peers, Copies(store, changes, copies, seed), folder)["train"]


def write_preview(store: Store, path: Path, transforms: list[dict[str, Any]], seed: int) -> None:
    """Draw what training does to some pictures, with a random stream of its own."""
    from components.drawings.preview import draw_preview

    draw_preview(path, store, [recipe.build(section, Transform) for section in transforms], seed)


def draw_augmented(store: Store, task: dict[str, Any], path: Path, seed: int) -> list[Path]:
    """Draw into `path` what the section `task` does to training pictures; return [path], or [] if it changes none."""
    transforms = online_transforms(task)
    if not transforms or not {"image", "label"} <= store.split("train").columns.keys():
        return []
    write_preview(store, path, transforms, seed)
    return [path]
