"""Digits and capitals from matplotlib's fonts, made to look like scikit-learn's handwritten digits: no download.

Those digits were 32x32 bitmaps of writing scaled to fill the box, then counted in blocks of 4x4 pixels (0..16 levels).
A glyph goes the same way: its outline is turned, slanted, squeezed and bent, drawn with a pen of random width, and counted.
All of a block of examples is drawn at once: the glyph is kept as a distance to its edge, in which a wider pen is only
another threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from components.data.digits import LEVELS, SIDE, enlarged
from components.data.order import fold, mixed
from components.data.store import Column
from components.ranges import Count, Natural
from components.refusal import Refusal
