"""Index maps: the masks of all objects in a picture as one array of a fixed shape.

Data sets with masks have one or both of these columns beside `image` uint8 [H, W, C]:

    instances  int16 [H, W]: 1 + the object's place in the row's `boxes` and `labels`; 0: no object
    mask       uint8 [H, W]: 1 + the class; 0: background; IGNORED: not judged

In an index map a pixel belongs to the front object only, so an object's mask is what is visible of it.
"""

from __future__ import annotations

import numpy as np

BACKGROUND = 0
IGNORED = 255  # of `mask`: pixels that count neither in training nor in a metric
MAX_CLASSES = 254
MAX_OBJECTS = 32_767  # per picture


def trace_boxes(instances: np.ndarray, count: int) -> np.ndarray:
    """Return the tight box of each of `count` objects in `instances` [H, W]: float32 [count, 4], ends exclusive.

    The box of an object without a pixel is all 0.
    """
    boxes = np.zeros((count, 4), np.float32)
    rows, columns = np.nonzero((instances > 0) & (instances <= count))
    places = instances[rows, columns].astype(np.int64) - 1
    first = np.full((count, 2), max(instances.shape))
    last = np.zeros((count, 2), np.int64)
    for axis, positions in enumerate((columns, rows)):
        np.minimum.at(first[:, axis], places, positions)
        np.maximum.at(last[:, axis], places, positions + 1)
    visible = last[:, 0] > 0
    boxes[visible] = np.concatenate([first, last], 1)[visible]
    return boxes


def paint_classes(instances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return `mask` uint8 [H, W] for `instances` [H, W], whose objects have the classes `labels` [N]."""
    values = np.concatenate([[BACKGROUND], np.asarray(labels, np.int64) + 1])
    return values[instances].astype(np.uint8)
