"""The latency of a prediction is measured for whatever a task answers with."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.commands.promotion.contest import measure_latencies


class Answering:
    """A task whose predictions are texts beside numbers."""

    def predict(self, state: Any, batch: Any) -> dict[str, Any]:
        return {"answer": ["in Paris"], "start": torch.zeros(1)}


def test_the_latency_of_texts_is_measured() -> None:
    latencies = measure_latencies({"champion": (Answering(), None)}, {})  # type: ignore[dict-item]
    assert latencies["champion"] > 0
