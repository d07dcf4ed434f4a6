"""Build a recipe's models without memory for their weights, so that `plan` refuses those that do not fit the data.

The data are not read for it: their spec is that of the prepared data, where there are any, or what the constructor of
the data set knows. Without a spec there is no check, and the worker's set-up refuses the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import Refusal
from components.recipes import recipe
from components.search.parameters import sample_ends
from components.storage.dataset import list_own_files
from components.storage.section import build_dataset, read_constructed

if TYPE_CHECKING:
    from components.training.task import Spec

MOST_BYTES = 1 << 30  # of the user's own files, whose digest names the prepared data; more take longer than a second


def check_models(content: dict[str, Any], where: str) -> None:
    """Set up the task of a checked recipe, or those that its search may try, on torch's meta device.

    Errors other than a Refusal are ignored: what needs values cannot be built without them. A task that reads another
    recipe's result is left out, because a run may write that anew.
    """
    if any(path.startswith("results/") for path in recipe.possible_paths(content["task"])):
        return
    space = content.get("tune", {}).get("search", {}).get("space", {})
    space = {key: entry for key, entry in space.items() if key.startswith("task.")}
    try:
        spec = read_known_spec(content["data"])
        if spec is None:
            return
        for values in sample_ends(space):
            _set_up(recipe.overlay({"task": content["task"]}, values)["task"], spec)
    except Refusal as refusal:
        raise Refusal(f"{where}: {refusal}") from None
    except Exception:
        return


def _set_up(section: dict[str, Any], spec: Spec) -> None:
    import torch

    from components.training.task import Task

    task: Task = recipe.build(section, Task)
    task.check_data(spec)
    with torch.device("meta"):
        task.setup(spec)


def read_known_spec(data: dict[str, Any]) -> Spec | None:
    """Return the spec of a section `data` if it is known without reading the data, else None."""
    from components.training.task import Spec
    from pipelines.fit import locate_prepared
    from pipelines.workers.training import read_spec

    dataset = build_dataset(data)
    if _have_few_bytes(list_own_files(dataset)):
        folder = locate_prepared(data)[0]
        prepared, augmented = folder / "prepared", folder / "augmented"
        if (augmented / "statistics.json").is_file():
            return read_spec(str(prepared), str(augmented))
    columns, classes = (read_constructed(dataset, name) for name in ("columns", "classes"))
    if columns is None or classes is None or hasattr(type(dataset), "tokenizers"):
        return None
    shapes = {name: column.shape for name, column in columns.items()}
    channels = (shapes.get("image") or (1,))[-1] or 1
    return Spec(shapes, tuple(classes), {"mean": [0.5] * channels, "std": [0.25] * channels})


def _have_few_bytes(paths: list[Path]) -> bool:
    """Return whether the files, and those in the folders, have at most MOST_BYTES."""
    size = 0
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else [path]:
            size += file.stat().st_size if file.is_file() else 0
            if size > MOST_BYTES:
                return False
    return True
