"""Digits and capitals from matplotlib's fonts, made to look like scikit-learn's handwritten digits: no download.

Those digits were 32x32 bitmaps of writing scaled to fill the box, then counted in blocks of 4x4 pixels (0..16 levels).
A glyph goes the same way: turned, slanted, squeezed and bent, fitted to the box, drawn with a pen of random width, and
counted. A block of examples is drawn at once: each glyph is kept as the depth below its edge, in which a wider pen is
only another threshold.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from .digits import SIDE, bilinear_matrix, resize_digits

CLASSES = string.digits + string.ascii_uppercase
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)
PART, BLOCK = 2048, 256  # examples of a part file, and those drawn at once
ATLAS, TALL = 64, 40  # side of a kept glyph and its height there; the rest is room for wide pens and letters
CANVAS, ROOM = 40, 1.4  # side of the first drawing, and how many glyph heights it spans
BITMAP, BITS = 32, 4  # side of the bitmap, and of the blocks it is counted in

# The hand: standard deviations, chosen by what carried over best to the digits' own training examples
TURN, SLANT, SQUEEZE, BEND = 0.1, 0.35, 0.15, 0.1  # radians, width per height, log width, glyph heights
INK, INK_SPREAD = 312, 34  # set pixels of a bitmap: mean and standard deviation in the digits
WIDEST = 24  # pixels of the bitmap, as most digits are


class Glyphs:
    """`per_class` examples of each of 36 classes to train on, and `validation` more; `size` is the pictures' side."""

    name = "glyphs"
    licence = "DejaVu (Bitstream Vera), STIX (SIL OFL 1.1) and BaKoMa Computer Modern fonts, as matplotlib brings them"
    source = "drawn here from the fonts in matplotlib's own folder"

    def __init__(self, per_class: Count = 400, validation: Natural = 40, size: Count = 16, seed: Natural = 0) -> None:
        self.rows = {"train": per_class * len(CLASSES), "validation": validation * len(CLASSES)}
        self.size, self.seed = size, seed
        self.classes = list(CLASSES)
        self.columns = {"image": Column("uint8", (size, size, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {split: -(-rows // PART) for split, rows in self.rows.items() if rows}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        last = min(self.rows[split], (part + 1) * PART)
        for first in range(part * PART, last, BLOCK):
            labels = np.arange(first, min(first + BLOCK, last)) % len(CLASSES)
            for image, label in zip(resize_digits(draw_glyphs(labels, random), self.size), labels, strict=True):
                yield {"image": image, "label": int(label)}


def draw_glyphs(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One glyph for each label [N], in a font and a hand of its own: levels 0..16 [N, 8, 8]."""
    fonts = random.integers(len(FONTS), size=len(labels))
    ink = np.clip(random.normal(INK, INK_SPREAD, len(labels)), INK / 2, 2 * INK)
    written = _fitted(_sampled(build_atlas()[labels * len(FONTS) + fonts], *_warp(len(labels), random)), ink)
    bitmaps = written >= _threshold(written, ink)
    return bitmaps.reshape(-1, SIDE, BITS, SIDE, BITS).sum((2, 4))


@cache
def build_atlas() -> np.ndarray:
    """Depth below the edge, in glyph heights (negative outside), of each class in each font: float32 [C * F, A, A]."""
    import matplotlib
    from PIL import ImageFont
    from scipy.ndimage import distance_transform_edt

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    basic = ImageFont.Layout.BASIC
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 3 * TALL, layout_engine=basic) for name in FONTS]
    glyphs = np.empty((len(CLASSES) * len(fonts), ATLAS, ATLAS), np.float32)
    for glyph, (letter, font) in zip(glyphs, itertools.product(CLASSES, fonts), strict=True):
        inside = _upright(letter, font)
        depth = distance_transform_edt(inside) - distance_transform_edt(~inside) + (0.5 - inside)
        glyph[:] = depth.reshape(ATLAS, 2, ATLAS, 2).mean((1, 3)) / (2 * TALL)
    return glyphs


def _upright(letter: str, font: Any) -> np.ndarray:
    """The letter at twice the atlas's resolution, TALL high and in the middle: bool [2 A, 2 A]."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (6 * TALL, 6 * TALL))
    ImageDraw.Draw(image).text((TALL, TALL), letter, fill=255, font=font)
    image = image.crop(image.getbbox())
    width = min(round(image.width * 2 * TALL / image.height), 2 * ATLAS - TALL // 2)
    canvas = Image.new("L", (2 * ATLAS, 2 * ATLAS))
    canvas.paste(image.resize((width, 2 * TALL)), (ATLAS - width // 2, ATLAS - TALL))
    return np.asarray(canvas) > 127


def _warp(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the canvas lies in the upright glyph: x and y in glyph heights [N, canvas, canvas]."""
    turn = random.normal(0, TURN, (count, 1, 1))
    slant = random.normal(0, SLANT, (count, 1, 1))
    wide = np.exp(random.normal(0, SQUEEZE, (count, 1, 1)))
    smooth = bilinear_matrix(4, CANVAS)
    bend = smooth @ random.normal(0, BEND, (2, count, 4, 4)) @ smooth.T
    line = ((np.arange(CANVAS) + 0.5) / CANVAS - 0.5) * ROOM
    x, y = line + bend[0], line[:, None] + bend[1]
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return (x + slant * y) / wide, y


def _sampled(glyphs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The glyphs [N, A, A] read bilinearly at x, y (in glyph heights from the middle) [N, canvas, canvas]."""
    column = np.clip(x * TALL + ATLAS / 2 - 0.5, 0, ATLAS - 1.001).astype(np.float32)
    row = np.clip(y * TALL + ATLAS / 2 - 0.5, 0, ATLAS - 1.001).astype(np.float32)
    left, top = column.astype(np.int32), row.astype(np.int32)
    right, below = column - left, row - top
    at = (np.arange(len(glyphs), dtype=np.int32)[:, None, None] * ATLAS + top) * ATLAS + left
    flat = glyphs.reshape(-1)
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + ATLAS] * (1 - right) + flat[at + ATLAS + 1] * right
    return upper * (1 - below) + lower * below


def _fitted(depth: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The written part of each canvas, as high as the bitmap and in its middle: [N, bitmap, bitmap]."""
    top, bottom = _extent(depth >= 0, axis=2)
    share = ((bottom - top) / BITMAP) ** 2  # of the ink, on this canvas
    pen = depth >= _threshold(depth, ink * share)
    top, bottom = _extent(pen, axis=2)
    left, right = _extent(pen, axis=1)
    step = (bottom - top) / BITMAP
    wide = np.maximum(step, (right - left) / WIDEST)
    rows = _lines((top + bottom) / 2, step)
    columns = _lines((left + right) / 2, wide)
    return rows @ depth @ columns.transpose(0, 2, 1)


def _extent(ink: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """First line with ink, and one past the last, of each picture [N]."""
    lines = np.any(ink, axis=axis)
    return lines.argmax(1), lines.shape[1] - lines[:, ::-1].argmax(1)


def _lines(middle: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Matrices that read BITMAP lines, `step` apart around `middle`, out of the canvas: [N, bitmap, canvas]."""
    centres = middle[:, None] + (np.arange(BITMAP) + 0.5 - BITMAP / 2) * step[:, None] - 0.5
    centres = np.clip(centres, 0, CANVAS - 1)
    return np.maximum(0, 1 - np.abs(centres[..., None] - np.arange(CANVAS))).astype(np.float32)


def _threshold(depth: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The depth that the `ink` [N] deepest pixels of each picture reach: [N, 1, 1]."""
    rising = np.sort(depth.reshape(len(depth), -1), axis=1)
    return np.take_along_axis(rising, -ink.astype(np.int64)[:, None], 1)[..., None]
