"""Tell the hidden states of sequences from their tokens, as near as possible to the exact posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.language import language_scores
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPSILON = 1e-30


class HiddenStates(Task):
    """Prediction of the state behind every token of rows of `data.hidden_markov.HiddenMarkov`.

    model: factory called with (classes, outputs), the numbers of tokens and of states; it maps (tokens [B, T]) to
    (logits [B, T, outputs], states). A bidirectional model can reach the posterior given all tokens, any other one at
    best that given the tokens so far.
    """

    monitor: ClassVar[tuple[str, str]] = ("gap", "min")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ("state", "filtered", "smoothed")

    def __init__(self, model: Callable[..., nn.Module], optimizer: Callable[..., Optimizer] = adam) -> None:
        self.model = model
        self.optimizer = optimizer

    def setup(self, spec: Spec) -> State:
        """Build the network for the numbers of tokens and states."""
        net = self.model(classes=len(spec.classes), outputs=spec.columns["smoothed"][-1])
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats of the true states [B, T], and the accuracy."""
        logits = state.modules["net"](shard.batch["token"].long())[0].float().flatten(0, 1)
        labels = shard.batch["state"].long().flatten()
        return F.cross_entropy(logits, labels), {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"p": [B, T, S], "state": [B, T]}: the probability of each state, and the most probable one."""
        p = state.modules["net"](batch["token"].long())[0].float().softmax(2)
        return {"p": p, "state": p.argmax(2)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return how well the states are predicted, and how well they can be.

        gap: mean KL divergence in nats from the posterior given all tokens to the prediction; 0 is the best possible.
        past_gap: the same of the posterior given the tokens so far, the best that a left-to-right model can reach.
        accuracy, perplexity, loss, bits: of the true states; bound_accuracy, bound_perplexity: of the posterior.
        """
        smoothed, label = targets["smoothed"], targets["state"]
        scores = {
            "gap": mean_divergence(smoothed, predictions["p"]),
            "past_gap": mean_divergence(smoothed, targets["filtered"]),
            "accuracy": float((predictions["state"] == label).mean()),
            "bound_accuracy": float((smoothed.argmax(2) == label).mean()),
            "bound_perplexity": language_scores(true_nll(smoothed, label))["perplexity"],
        }
        return scores | language_scores(true_nll(predictions["p"], label))

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the predicted against the exact probability of every state in the first sequences."""
        from ..drawings.fit import draw_predicted_against_true

        predicted, exact = (values[:32].ravel() for values in (predictions["p"], targets["smoothed"]))
        return {"posterior": draw_predicted_against_true(predicted, exact, "Probability of a state")}


def mean_divergence(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean over all positions of KL(truth || predicted) in nats, for distributions [..., S]."""
    p, q = (np.maximum(values.astype(np.float64), EPSILON) for values in (truth, predicted))
    return float((p * np.log(p / q)).sum(-1).mean())


def true_nll(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return -log of the probability of each true label [...], for p [..., S]."""
    chosen = np.take_along_axis(p, label[..., None].astype(np.int64), -1)[..., 0]
    return -np.log(np.maximum(chosen, EPSILON))
