"""RNN, GRU, LSTM, in one or several layers (notes: RNN, gated units, deep and bidirectional recurrent networks)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Count, Fraction, Natural

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
STATES = ("hidden", "cell")  # what is kept from step to step; "cell" by an LSTM alone
States = dict[str, Tensor]  # each [B, layers (twice as many both ways), hidden]


class Recurrent(nn.Module):
    """Tokens [B, T] -> logits [B, T, classes] of what each step's hidden state says, and the states after the last.

    embedding: width of the learned vectors that stand for the tokens; 0: one-hot vectors (as in the notes). dropout: on
    those, between layers, and before the output layer. bidirectional: each step sees what comes after it, too: for
    features and for filling blanks, not for predicting what comes next.

    As everywhere in torch, the GRU's reset gate acts on the product U h (the form of cuDNN), in the notes on h itself.
    """

    def __init__(
        self,
        classes: int,
        cell: Literal["rnn", "gru", "lstm"] = "gru",
        embedding: Natural = 0,
        hidden: Count = 256,
        layers: Count = 1,
        dropout: Fraction = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.bidirectional = classes, bidirectional
        self.embedding = nn.Embedding(classes, embedding) if embedding else None
        self.dropout = nn.Dropout(dropout)
        self.body = CELLS[cell](
            embedding or classes,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.head = nn.Linear(hidden * (1 + bidirectional), classes)

    def forward(self, tokens: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """states: what an earlier call gave, for the same texts; None or {}: each text begins here."""
        if self.embedding is None:
            vectors = F.one_hot(tokens, self.classes).to(self.head.weight.dtype)
        else:
            vectors = self.embedding(tokens)
        states = states or {}
        given = [states[name].transpose(0, 1).contiguous() for name in STATES if name in states]
        started = None if not given else tuple(given) if isinstance(self.body, nn.LSTM) else given[0]
        features, after = self.body(self.dropout(vectors), started)
        kept = after if isinstance(after, tuple) else (after,)
        found = {name: state.transpose(0, 1) for name, state in zip(STATES, kept, strict=False)}
        return self.head(self.dropout(features)), found
