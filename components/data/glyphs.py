"""Digits and capitals drawn from matplotlib's fonts, to look like scikit-learn's handwritten digits: no download.

Those digits are 32x32 bitmaps of writing, scaled to fill the box, whose pixels are counted in blocks of 4x4 (levels
0..16). A glyph is made the same way: turned, slanted, squeezed and bent, fitted to the box, drawn with a pen of random
width, and counted. A block of examples is drawn at once. Each glyph is stored as the depth below its edge, in which a
wider pen is just another threshold.

Dimensions in comments: N examples, C classes, F fonts, A side of the atlas.
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
ROWS_PER_PART = 2048
BLOCK = 256  # examples drawn at once

# Pixels. The atlas's margin is room for wide pens and wide letters.
ATLAS = 64  # side of a glyph's picture in the atlas
GLYPH_HEIGHT = 40  # height of the glyph in it
CANVAS = 40  # side of the first drawing
CANVAS_HEIGHTS = 1.4  # glyph heights that the canvas spans
BITMAP = 32  # side of the bitmap
BLOCK_SIDE = 4  # side of the blocks in which the bitmap's pixels are counted

# Standard deviations of the random hand, chosen for the best transfer to the digits' own training examples
TURN = 0.1  # radians
SLANT = 0.35  # width per height
SQUEEZE = 0.15  # log width
BEND = 0.1  # glyph heights
INK = 312  # mean number of set pixels in the digits' bitmaps
INK_SPREAD = 34  # standard deviation of that number
WIDEST = 24  # pixels of the bitmap, the width of most digits


class Glyphs:
    """36 classes with `per_class` training examples and `validation` held-out examples each, `size` pixels a side."""

    name = "glyphs"
    licence = "DejaVu (Bitstream Vera), STIX (SIL OFL 1.1) and BaKoMa Computer Modern fonts, as matplotlib brings them"
    source = "drawn here from the fonts in matplotlib's own folder"

    def __init__(self, per_class: Count = 400, validation: Natural = 40, size: Count = 16, seed: Natural = 0) -> None:
        self.rows = {"train": per_class * len(CLASSES), "validation": validation * len(CLASSES)}
        self.size = size
        self.seed = seed
        self.classes = list(CLASSES)
        self.columns = {"image": Column("uint8", (size, size, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}, without an empty validation split."""
        return {split: -(-rows // ROWS_PER_PART) for split, rows in self.rows.items() if rows}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the glyphs of one part; the classes take turns."""
        random = np.random.default_rng([self.seed, list(self.rows).index(split), part])
        last = min(self.rows[split], (part + 1) * ROWS_PER_PART)
        for first in range(part * ROWS_PER_PART, last, BLOCK):
            labels = np.arange(first, min(first + BLOCK, last)) % len(CLASSES)
            images = resize_digits(draw_glyphs(labels, random), self.size)
            for image, label in zip(images, labels, strict=True):
                yield {"image": image, "label": int(label)}


def draw_glyphs(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw one glyph per label [N], each in a random font and hand: levels 0..16 [N, 8, 8]."""
    fonts = random.integers(len(FONTS), size=len(labels))
    ink = np.clip(random.normal(INK, INK_SPREAD, len(labels)), INK / 2, 2 * INK)
    glyphs = build_atlas()[labels * len(FONTS) + fonts]
    x, y = _warp(len(labels), random)
    depth = _fit_to_bitmap(sample_depth(glyphs, x, y), ink)
    bitmaps = depth >= _threshold(depth, ink)
    return bitmaps.reshape(-1, SIDE, BLOCK_SIDE, SIDE, BLOCK_SIDE).sum((2, 4))


@cache
def build_atlas() -> np.ndarray:
    """Return the depth below the edge of each class in each font, in glyph heights: float32 [C * F, A, A].

    The depth is negative outside the glyph.
    """
    import matplotlib
    from PIL import ImageFont
    from scipy.ndimage import distance_transform_edt

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    basic = ImageFont.Layout.BASIC
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 3 * GLYPH_HEIGHT, layout_engine=basic) for name in FONTS]
    glyphs = np.empty((len(CLASSES) * len(fonts), ATLAS, ATLAS), np.float32)
    for glyph, (letter, font) in zip(glyphs, itertools.product(CLASSES, fonts), strict=True):
        inside = _draw_upright(letter, font)
        depth = distance_transform_edt(inside) - distance_transform_edt(~inside) + (0.5 - inside)
        glyph[:] = depth.reshape(ATLAS, 2, ATLAS, 2).mean((1, 3)) / (2 * GLYPH_HEIGHT)
    return glyphs


def _draw_upright(letter: str, font: Any) -> np.ndarray:
    """Draw a letter at twice the atlas's resolution, GLYPH_HEIGHT high and in the middle: bool [2 A, 2 A]."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (6 * GLYPH_HEIGHT, 6 * GLYPH_HEIGHT))
    ImageDraw.Draw(image).text((GLYPH_HEIGHT, GLYPH_HEIGHT), letter, fill=255, font=font)
    image = image.crop(image.getbbox())
    width = min(round(image.width * 2 * GLYPH_HEIGHT / image.height), 2 * ATLAS - GLYPH_HEIGHT // 2)
    canvas = Image.new("L", (2 * ATLAS, 2 * ATLAS))
    canvas.paste(image.resize((width, 2 * GLYPH_HEIGHT)), (ATLAS - width // 2, ATLAS - GLYPH_HEIGHT))
    return np.asarray(canvas) > 127


def _warp(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where each canvas pixel lies in the upright glyph: x and y in glyph heights [N, canvas, canvas]."""
    turn = random.normal(0, TURN, (count, 1, 1))
    slant = random.normal(0, SLANT, (count, 1, 1))
    width = np.exp(random.normal(0, SQUEEZE, (count, 1, 1)))
    smooth = bilinear_matrix(4, CANVAS)
    bend = smooth @ random.normal(0, BEND, (2, count, 4, 4)) @ smooth.T
    line = ((np.arange(CANVAS) + 0.5) / CANVAS - 0.5) * CANVAS_HEIGHTS
    bent_x = line + bend[0]
    bent_y = line[:, None] + bend[1]
    x = np.cos(turn) * bent_x + np.sin(turn) * bent_y
    y = np.cos(turn) * bent_y - np.sin(turn) * bent_x
    return (x + slant * y) / width, y


def sample_depth(glyphs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read the glyphs [N, A, A] bilinearly at x, y (in glyph heights from the middle): [N, canvas, canvas]."""
    column = np.clip(x * GLYPH_HEIGHT + ATLAS / 2 - 0.5, 0, ATLAS - 1.001).astype(np.float32)
    row = np.clip(y * GLYPH_HEIGHT + ATLAS / 2 - 0.5, 0, ATLAS - 1.001).astype(np.float32)
    first_column = column.astype(np.int32)
    first_row = row.astype(np.int32)
    right = column - first_column  # weight of the next column
    below = row - first_row  # weight of the next row
    index = (np.arange(len(glyphs), dtype=np.int32)[:, None, None] * ATLAS + first_row) * ATLAS + first_column
    flat = glyphs.reshape(-1)
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    lower = flat[index + ATLAS] * (1 - right) + flat[index + ATLAS + 1] * right
    return upper * (1 - below) + lower * below


def _fit_to_bitmap(depth: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Resample each canvas so that the written part is as high as the bitmap, in its middle: [N, bitmap, bitmap]."""
    top, bottom = _extent(depth >= 0, axis=2)
    share = ((bottom - top) / BITMAP) ** 2  # converts pixels of the bitmap to pixels of this canvas
    pen = depth >= _threshold(depth, ink * share)
    top, bottom = _extent(pen, axis=2)
    first, last = _extent(pen, axis=1)
    row_step = (bottom - top) / BITMAP
    column_step = np.maximum(row_step, (last - first) / WIDEST)
    rows = _resampling_matrices((top + bottom) / 2, row_step)
    columns = _resampling_matrices((first + last) / 2, column_step)
    return rows @ depth @ columns.transpose(0, 2, 1)


def _extent(ink: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first line with ink and the line after the last one, of each picture [N]."""
    lines = np.any(ink, axis=axis)
    return lines.argmax(1), lines.shape[1] - lines[:, ::-1].argmax(1)


def _resampling_matrices(middle: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return matrices that read BITMAP lines, `step` apart around `middle`, from the canvas: [N, bitmap, canvas]."""
    centres = middle[:, None] + (np.arange(BITMAP) + 0.5 - BITMAP / 2) * step[:, None] - 0.5
    centres = np.clip(centres, 0, CANVAS - 1)
    return np.maximum(0, 1 - np.abs(centres[..., None] - np.arange(CANVAS))).astype(np.float32)


def _threshold(depth: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Return the depth that the `ink` [N] deepest pixels of each picture reach: [N, 1, 1]."""
    ascending = np.sort(depth.reshape(len(depth), -1), axis=1)
    return np.take_along_axis(ascending, -ink.astype(np.int64)[:, None], 1)[..., None]
