"""`trainyard study SOURCE FILE`: write the newest search of a recipe as a study that Optuna's dashboard shows."""

from __future__ import annotations

from pathlib import Path

from components.errors import Refusal, pluralize
from components.files import read_object
from components.recipes import recipe
from components.runs.description import read_description
from components.search.earlier import SEARCH
from components.search.export import export_studies
from components.workspace import runs_folder


def main(source: str, file: str) -> int:
    """Export the search of the recipe or the run's folder `source` to `file`; return an exit code."""
    folder = Path(source) if Path(source).is_dir() else newest_search(source)
    if not (folder / SEARCH).is_file():
        raise Refusal(f"{source}: is not the folder of a search; name a recipe, or a folder in .trainyard/runs")
    if "space" not in read_object(folder / SEARCH):
        raise Refusal(f"{folder / SEARCH}: has no 'space'; run the search again")
    title = str(read_description(folder)["experiment"])
    for name, count in export_studies(folder, Path(file), f"{title} {folder.name}").items():
        print(f"{file}: {pluralize(count, 'trial')} in the study '{name}'")
    print(f"to view it: pip install optuna-dashboard; optuna-dashboard {_storage(file)}")
    return 0


def newest_search(path: str) -> Path:
    """Return the folder of the newest search of the flagship's params or of a family's recipe."""
    content = recipe.load(path)
    name, experiment = ("tune", content["name"]) if "pretrain" in content else _names(path)
    folders = [note.parent for note in runs_folder().glob(f"{name}-*/{SEARCH}")]
    folders = [folder for folder in folders if read_description(folder)["experiment"] == experiment]
    if not folders:
        raise Refusal(f"{path}: no search of it was run here; run it first")
    return max(folders, key=lambda folder: (folder / SEARCH).stat().st_mtime_ns)


def _names(path: str) -> tuple[str, str]:
    """Return the names of a family's recipe and of its experiment."""
    return Path(path).stem, Path(path).resolve().parent.name


def _storage(file: str) -> str:
    return f"sqlite:///{file}" if Path(file).suffix not in (".log", ".journal") else file
