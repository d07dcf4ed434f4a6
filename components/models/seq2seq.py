"""Two recurrent networks: one reads the source, the other writes the target (notes: encoder-decoder, seq2seq).

Both translators (this one, `models/transformer.py`) have the same three methods:

    start(source)          the source, read once: what a decoder goes on from, tensors [B, ...] by name
    decode(tokens, states) logits of what follows each of `tokens`, and the states after them
    net(source, tokens)    both: the whole target at once, as teacher forcing needs it

`decode` takes one token or many: a text in pieces gives what the whole text gives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..data.parallel import PAD, sentence_lengths
from ..errors import Refusal
from ..layers.attention import Additive, DotProduct
from ..recipes.ranges import Count, Fraction

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
STATES = ("hidden", "cell")  # "cell" of an LSTM alone
States = dict[str, Tensor]


class Seq2Seq(nn.Module):
    """The decoder begins with the encoder's last states, those of each layer and, of an LSTM, the cells' too.

    sources, targets: sizes of the two vocabularies. bidirectional: the encoder reads both ways, each with hidden / 2
    units. attention: none (Sutskever et al. 2014), or the decoder's state looks at all states of the encoder, scored by
    an MLP (additive) or by the scaled dot product, and what it finds is mixed in before the output layer. As in Luong
    et al. 2015 it asks with the state of the step itself, so that all steps are one call; in Bahdanau et al. 2015 with
    the state before it. dropout: on embeddings, between layers, before the output layer.
    """

    def __init__(
        self,
        sources: int,
        targets: int,
        cell: Literal["gru", "lstm"] = "gru",
        embedding: Count = 64,
        hidden: Count = 128,
        layers: Count = 1,
        dropout: Fraction = 0.0,
        bidirectional: bool = False,
        attention: Literal["none", "additive", "dot"] = "none",
    ) -> None:
        super().__init__()
        if bidirectional and hidden % 2:
            raise Refusal(f"task.model.hidden: {hidden} is odd; each way of a bidirectional encoder has half of it")
        self.source, self.target = nn.Embedding(sources, embedding), nn.Embedding(targets, embedding)
        between = dropout if layers > 1 else 0.0
        one_way = hidden // (1 + bidirectional)
        self.encoder: nn.RNNBase = CELLS[cell](
            embedding, one_way, layers, batch_first=True, dropout=between, bidirectional=bidirectional
        )
        self.decoder: nn.RNNBase = CELLS[cell](embedding, hidden, layers, batch_first=True, dropout=between)
        self.attention: nn.Module | None = None
        if attention != "none":
            self.attention = DotProduct() if attention == "dot" else Additive(hidden, hidden, hidden)
            self.mix = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, targets)

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """source [B, S], tokens [B, T] (the target from <bos> on) -> logits [B, T, targets]."""
        return self.decode(tokens, self.start(source))[0]

    def start(self, source: Tensor) -> States:
        """source [B, S] -> {"hidden", "cell" [B, layers, hidden]};
        with attention also {"memory" [B, S, hidden], "valid" [B, S]}.

        Padding is never read: the last state is that of the last token.
        """
        vectors = self.dropout(self.source(source))
        packed = pack_padded_sequence(vectors, sentence_lengths(source).cpu(), batch_first=True, enforce_sorted=False)
        read, after = self.encoder(packed)
        kept = after if isinstance(after, tuple) else (after,)
        states = {name: self._both_ways(state) for name, state in zip(STATES, kept, strict=False)}
        if self.attention is not None:
            memory, _ = pad_packed_sequence(read, batch_first=True, total_length=source.shape[1])
            states |= {"memory": memory, "valid": source != PAD}
        return states

    def decode(self, tokens: Tensor, states: States) -> tuple[Tensor, States]:
        """tokens [B, T] -> (logits [B, T, targets], states); with attention its weights too, "attention" [B, T, S]."""
        given = tuple(states[name].transpose(0, 1).contiguous() for name in STATES if name in states)
        begin = given if isinstance(self.decoder, nn.LSTM) else given[0]
        features, after = self.decoder(self.dropout(self.target(tokens)), begin)
        kept = after if isinstance(after, tuple) else (after,)
        states = states | {name: state.transpose(0, 1) for name, state in zip(STATES, kept, strict=False)}
        if self.attention is not None:
            memory = states["memory"]
            found, weights = self.attention(features, memory, memory, states["valid"][:, None])
            features = torch.tanh(self.mix(torch.cat([features, found], dim=2)))
            states["attention"] = weights
        return self.head(self.dropout(features)), states

    def _both_ways(self, state: Tensor) -> Tensor:
        """[layers * ways, B, H] -> [B, layers, ways * H]."""
        return state.unflatten(0, (self.decoder.num_layers, -1)).permute(2, 0, 1, 3).flatten(2)
