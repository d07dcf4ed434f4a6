"""RNN, GRU and LSTM of one or several layers (notes: RNN, GRU, LSTM, deep and bidirectional recurrent networks)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Count, Fraction, Natural

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
STATES = ("hidden", "cell")  # only an LSTM has a "cell"
States = dict[str, Tensor]  # {name: [B, layers, hidden]}, with twice the layers if bidirectional


class Recurrent(nn.Module):
    """Map tokens [B, T] to logits [B, T, outputs] and the states after the last token.

    outputs: number of logits, by default of the `classes` tokens. embedding: width of the learned token vectors; 0 uses
    one-hot vectors, as in the notes. dropout: on the token vectors, between layers, and before the output layer.
    bidirectional: each step also sees later tokens, which suits features and filling blanks, but not the prediction of
    the next token.

    As everywhere in torch, the reset gate of a GRU acts on the product U h (as in cuDNN); in the notes it acts on h.
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
        outputs: Count | None = None,
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
        self.head = nn.Linear(hidden * (1 + bidirectional), outputs or classes)

    def forward(self, tokens: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Return (logits [B, T, outputs], states) of tokens [B, T].

        states: those of an earlier call, to continue the same texts; None or {} starts new texts.
        """
        if self.embedding is None:
            vectors = F.one_hot(tokens, self.classes).to(self.head.weight.dtype)
        else:
            vectors = self.embedding(tokens)
        features, last = self.body(self.dropout(vectors), self._first_states(states or {}))
        last = last if isinstance(last, tuple) else (last,)
        new_states = {name: state.transpose(0, 1) for name, state in zip(STATES, last, strict=False)}
        return self.head(self.dropout(features)), new_states

    def _first_states(self, states: States) -> Tensor | tuple[Tensor, ...] | None:
        """Return `states` in the layout of torch's recurrent layers: [layers, B, hidden] each, a pair for an LSTM."""
        tensors = tuple(states[name].transpose(0, 1).contiguous() for name in STATES if name in states)
        if not tensors:
            return None
        return tensors if isinstance(self.body, nn.LSTM) else tensors[0]
