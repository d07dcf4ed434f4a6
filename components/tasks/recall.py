"""Name the letter that a sequence held some tokens ago, and measure the error over the memory that this needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recall(Task):
    """Classification of the rows of `data.recall.Recall` after their last token.

    model: factory called with (classes, outputs), both the number of tokens; it maps tokens [B, T] to (logits
    [B, T, outputs], states), of which those at the end count. Latent autoregression (`models.recurrent.Recurrent`)
    keeps a state of all tokens, a fixed window (`models.window.Window`) sees the last few.
    """

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ("label", "memory")

    def __init__(self, model: Callable[..., nn.Module], optimizer: Callable[..., Optimizer] = adam) -> None:
        self.model = model
        self.optimizer = optimizer

    def setup(self, spec: Spec) -> State:
        """Build the network; Refusal if its window is longer than the rows."""
        net = self.model(classes=len(spec.classes), outputs=len(spec.classes))
        (length,) = spec.columns["token"]
        window = getattr(net, "window", 1)
        if length is not None and window > length:
            raise Refusal(f"task.model.window: {window} is more than the {length} tokens of a row; lower it")
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats and the accuracy of the labels [B]."""
        logits = state.modules["net"](shard.batch["token"].long())[0][:, -1].float()
        label = shard.batch["label"]
        return F.cross_entropy(logits, label), {"accuracy": (logits.detach().argmax(1) == label).float().mean()}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"label": [B]}."""
        return {"label": state.modules["net"](batch["token"].long())[0][:, -1].argmax(1)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return accuracy, and the error for each memory length, such as error_04."""
        errors = errors_by_memory(predictions["label"], targets)
        accuracy = float((predictions["label"] == targets["label"]).mean())
        return {"accuracy": accuracy} | {f"error_{memory:02d}": error for memory, error in errors.items()}

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return 1 for rows whose label is right, otherwise 0: float64 [N]."""
        return (predictions["label"] == targets["label"]).astype(np.float64)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the error over the memory that a row needs."""
        from ..drawings.figures import draw_curves

        errors = errors_by_memory(predictions["label"], targets)
        curve = (np.array(list(errors)), np.array(list(errors.values())))
        return {"memory": draw_curves({"error": [curve]}, "Error over the memory that is needed", "tokens back")}


def errors_by_memory(predicted: np.ndarray, targets: dict[str, Any]) -> dict[int, float]:
    """Return {memory: share of its rows with a wrong label}, ascending, for memories that occur."""
    wrong = predicted != targets["label"]
    return {int(memory): float(wrong[targets["memory"] == memory].mean()) for memory in np.unique(targets["memory"])}
