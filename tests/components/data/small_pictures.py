"""Write small pictures, and folders of them, and tell the pictures of a data set by their grey levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.data.image_folder import ImageFolder


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def flat(level: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def write_pets(folder: Path) -> Path:
    """Write 20 cats of levels 0..19, 10 dogs of levels 100..109, and files that folders tend to contain."""
    for i in range(20):
        save(folder / "pets" / "cat" / f"deeper{i % 2}" / f"{i}.png", flat(i))
    for i in range(10):
        save(folder / "pets" / "dog" / f"{i}.BMP", flat(100 + i))
    (folder / "pets" / "dog" / "Thumbs.db").write_bytes(b"not a picture")
    (folder / "pets" / "dog" / "._0.png").write_bytes(b"not a picture")
    (folder / "pets" / ".cache").mkdir()
    return folder / "pets"


def levels(data: ImageFolder, split: str) -> dict[int, int]:
    examples = [e for part in range(data.parts()[split]) for e in data.examples(split, part)]
    return {int(e["image"][0, 0, 0]): e["label"] for e in examples}


def splits_by_level(folder: Path, **arguments: Any) -> dict[int, str]:
    """Return {grey level: split} of all pictures."""
    data = ImageFolder(str(folder), size=8, **arguments)
    return {level: split for split in data.parts() for level in levels(data, split)}
