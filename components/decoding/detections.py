"""Select the detections of pictures from scored boxes: the best candidates, suppression, padding."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..layers.boxes import unsuppressed
from ..layers.sampling import compact

# Candidates per returned detection, before suppression.
CANDIDATES = 10


def select_detections(boxes: Tensor, scores: Tensor, suppress: float, most: int) -> dict[str, Tensor]:
    """Return {"boxes": [B, most, 4], "scores": [B, most], "labels": [B, most]}, best first, padded with label -1.

    boxes: [B, N, 4], or [B, N, K, 4] where each class has its own. scores: [B, N, K]. The CANDIDATES * most best pairs
    of a box and a class take part; of two of a class with an IoU above `suppress`, the weaker is dropped. Pairs with
    score 0 are never returned. A picture's detections do not depend on the other pictures.
    """
    classes = scores.shape[2]
    order = scores.flatten(1).argsort(dim=1, descending=True, stable=True)[:, : CANDIDATES * most]
    rows = order if boxes.dim() == 4 else order // classes
    candidates = boxes.flatten(1, -2).gather(1, rows[..., None].expand(-1, -1, 4))
    labels = order % classes
    candidate_scores = scores.flatten(1).gather(1, order)
    remaining = unsuppressed(candidates, suppress, labels) & (candidate_scores > 0)
    places = compact(remaining, most)
    is_real = remaining.gather(1, places)
    padding = most - places.shape[1]
    return {
        "boxes": F.pad(
            candidates.gather(1, places[..., None].expand(-1, -1, 4)) * is_real[..., None], (0, 0, 0, padding)
        ),
        "scores": F.pad(candidate_scores.gather(1, places) * is_real, (0, padding)),
        "labels": F.pad(labels.gather(1, places).masked_fill(~is_real, -1), (0, padding), value=-1),
    }
