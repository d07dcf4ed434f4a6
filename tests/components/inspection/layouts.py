"""Write small pictures, inspect a folder or file, and prepare the data of the recipe that is proposed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from components.inspection.findings import Findings
from components.inspection.recognise import inspect_path
from components.recipes import recipe
from components.storage.dataset import Dataset, prepare_dataset
from pipelines.stage.check import check_recipe


def inspect(path: Path) -> Findings:
    return inspect_path(path, lambda subject, done, total: None)


def save(path: Path, level: int, size: tuple[int, int] = (8, 8), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level // 2, 9)).save(path, **options)


def prepare(findings: Findings, folder: Path) -> dict[str, Any]:
    """Check the proposed recipe, prepare its data, and return the manifest."""
    assert findings.recipe is not None
    check_recipe(findings.recipe, "proposed.yaml")
    return prepare_dataset(recipe.build(findings.recipe["data"], Dataset), folder)
