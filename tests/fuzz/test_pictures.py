"""The reader of pictures on 5,000 damaged files: a picture, or one line that names the file; never anything else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.picture import read_picture
from components.errors import Refusal
from tests.fuzz.child import run_limited

FILES = 5000
PER_CHILD = 250
MODES = {  # suffix -> modes in which Pillow writes it
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "jpg": ["L", "RGB", "CMYK"],
    "gif": ["P", "L"],
    "bmp": ["1", "L", "P", "RGB"],
    "tiff": ["1", "L", "RGB", "CMYK", "I;16", "F", "I"],
    "webp": ["RGB", "RGBA"],
    "ppm": ["L", "RGB"],
}


def intact_files() -> list[tuple[str, bytes]]:
    """Return (suffix, content) of small pictures in all formats and modes, with metadata where there can be any."""
    ramp = Image.fromarray(np.add.outer(np.arange(24), np.arange(20)).astype(np.uint8) * 5)
    exif = Image.Exif()
    exif[274] = 6
    exif[282] = (72, 1)
    exif[271] = "maker"
    files = []
    for suffix, modes in MODES.items():
        for mode in modes:
            image = Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257) if mode == "I;16" else ramp.convert(mode)
            options = {"exif": exif} if suffix in ("jpg", "png", "webp", "tiff") else {}
            for extra in (
                {},
                {"save_all": True, "append_images": [image]} if suffix in ("gif", "webp", "tiff") else {},
            ):
                content = io.BytesIO()
                image.save(content, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options, **extra)
                files.append((suffix, content.getvalue()))
    return files


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Return the content with some bytes changed, cut, repeated or removed, more often near the begin."""
    data = bytearray(content)
    for _ in range(random.integers(1, 6)):
        if not data:
            break
        place = int(len(data) * random.random() ** 2)
        length = int(random.integers(1, 9))
        kind = random.integers(0, 6)
        if kind == 0:
            data[place : place + length] = random.bytes(length)
        elif kind == 1:
            data[place] ^= 1 << int(random.integers(0, 8))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + 16 * length]
        elif kind == 4:
            data[place : place + length] = bytes([random.choice([0, 255])]) * length
        else:
            del data[max(8, place) :]
    return bytes(data)


def read_damaged(folder: Path, first: int, count: int) -> tuple[int, int]:
    """Return how many of the damaged files first, first + 1, ... are read, and how many are refused by name."""
    files = intact_files()
    pictures = 0
    lines: list[tuple[str, str]] = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        suffix, content = files[number % len(files)]
        path = folder / f"{number}.{suffix}"
        path.write_bytes(damage(content, random))
        fit = ("crop", "pad", "squash")[number % 3]
        levels = [[0, 65535], None, [-1e9, 1e9]][number // 3 % 3]
        try:
            pixels = read_picture(path, 16, bool(number % 2), fit, levels)  # type: ignore[arg-type]
            pictures += 1
        except Refusal as refusal:
            lines.append((str(path), str(refusal)))
            continue
        finally:
            path.unlink()
        assert pixels.shape == (16, 16, 3 if number % 2 else 1)
        assert pixels.dtype == np.uint8
    for name, line in lines:
        assert line.startswith(f"{name}: ")
        assert "\n" not in line
    return pictures, len(lines)


def check_range(folder: Path, first: int, count: int) -> None:
    pictures, refused = run_limited(lambda: read_damaged(folder, first, count), seconds=60)
    assert pictures + refused == count
    assert min(pictures, refused) > count // 20  # the damage is neither harmless nor total


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_intact_files_are_read(tmp_path: Path) -> None:
    for number, (suffix, content) in enumerate(intact_files()):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(content)
        with Image.open(path) as image:
            levels = {"I;16": [0, 65535], "F": [0, 255], "I": [0, 255]}.get(image.mode)
            bilevel = image.mode == "1"
        pixels = read_picture(path, 20, colour=False, fit="squash", levels=levels)[..., 0].astype(int)
        if not bilevel:
            turned = suffix in ("jpg", "png", "webp", "tiff")
            corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert corners[1 if turned else 0] < 40, path
            assert corners[2 if turned else 3] > 170, path


def test_some_damaged_files(tmp_path: Path) -> None:
    check_range(tmp_path, 0, PER_CHILD)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(PER_CHILD, FILES, PER_CHILD))
def test_damaged_files(tmp_path: Path, first: int) -> None:
    check_range(tmp_path, first, PER_CHILD)
