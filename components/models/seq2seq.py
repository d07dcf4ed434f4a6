"""An encoder and a recurrent decoder for translation (Sutskever et al. 2014; notes: encoder-decoder, seq2seq).

All translators (this one and `models/transformer.py`) have the same three methods:

    start(source)           encode the source; return the states of the decoder before the first token, by name [B, ...]
    decode(tokens, states)  return the logits of the token after each of `tokens`, and the states after them
    net(source, tokens)     do both for the complete target, as teacher forcing needs it

`decode` takes one token or several: a text in pieces gives the same logits as the complete text.
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
from .encoders import HEADS, PARALLEL

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
STATES = ("hidden", "cell")  # only an LSTM has a "cell"
States = dict[str, Tensor]


class Seq2Seq(nn.Module):
    """A translator whose decoder starts with the last states of the encoder, layer by layer.

    encoder: recurrent, or one that reads all tokens at once ("cnn", "self-attention"; `models/encoders.py`); it has no
    last state, and the decoder starts with a projection of the mean of its outputs.
    sources, targets: sizes of the two vocabularies. bidirectional: the encoder reads in both directions, each with
    hidden / 2 units. dropout: on embeddings, between layers, and before the output layer.

    attention: "none" (Sutskever et al. 2014), or attention of the decoder on all states of the encoder, scored by an
    MLP ("additive") or by the scaled dot product ("dot"). Its result is mixed in before the output layer. The query is
    the state of the current step, as in Luong et al. 2015, so that all steps are one call; in Bahdanau et al. 2015 it
    is the previous state.
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
        encoder: Literal["recurrent", "cnn", "self-attention"] = "recurrent",
    ) -> None:
        super().__init__()
        if encoder != "recurrent" and (bidirectional or hidden % (2 * HEADS)):
            raise Refusal(
                f"task.model.encoder: {encoder} reads both directions at once, with hidden a multiple of {2 * HEADS};"
                " drop bidirectional, or change hidden"
            )
        if bidirectional and hidden % 2:
            raise Refusal(
                f"task.model.hidden: {hidden} is odd, but each direction of a bidirectional encoder gets half of it;"
                " make it even"
            )
        self.source, self.target = nn.Embedding(sources, embedding), nn.Embedding(targets, embedding)
        layer_dropout = dropout if layers > 1 else 0.0
        encoder_hidden = hidden // (1 + bidirectional)
        self.encoder: nn.Module
        self.first: nn.Linear | None = None
        if encoder == "recurrent":
            self.encoder = CELLS[cell](
                embedding, encoder_hidden, layers, batch_first=True, dropout=layer_dropout, bidirectional=bidirectional
            )
        else:
            self.encoder = PARALLEL[encoder](embedding, hidden, layers, dropout)
            self.first = nn.Linear(hidden, (2 if cell == "lstm" else 1) * layers * hidden)
        self.decoder: nn.RNNBase = CELLS[cell](embedding, hidden, layers, batch_first=True, dropout=layer_dropout)
        self.attention: nn.Module | None = None
        if attention != "none":
            self.attention = DotProduct() if attention == "dot" else Additive(hidden, hidden, hidden)
            self.mix = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, targets)

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Return logits [B, T, targets] of source [B, S] and tokens [B, T], the target from <bos> on."""
        return self.decode(tokens, self.start(source))[0]

    def start(self, source: Tensor) -> States:
        """Encode source [B, S] and return the first states of the decoder.

        They are {"hidden", "cell": [B, layers, hidden]}; with attention also {"memory": [B, S, hidden], "valid":
        [B, S]}. Padding is skipped: the last state is that of the last token.
        """
        vectors = self.dropout(self.source(source))
        if self.first is not None:
            return self._start_in_parallel(vectors, source != PAD)
        packed = pack_padded_sequence(vectors, sentence_lengths(source).cpu(), batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        last = last if isinstance(last, tuple) else (last,)
        states = {name: self._join_directions(state) for name, state in zip(STATES, last, strict=False)}
        if self.attention is not None:
            memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
            states |= {"memory": memory, "valid": source != PAD}
        return states

    def decode(self, tokens: Tensor, states: States) -> tuple[Tensor, States]:
        """Return (logits [B, T, targets], states after the last token) of tokens [B, T].

        With attention, the states include its weights, "attention" [B, T, S].
        """
        tensors = tuple(states[name].transpose(0, 1).contiguous() for name in STATES if name in states)
        first = tensors if isinstance(self.decoder, nn.LSTM) else tensors[0]
        features, last = self.decoder(self.dropout(self.target(tokens)), first)
        last = last if isinstance(last, tuple) else (last,)
        states = states | {name: state.transpose(0, 1) for name, state in zip(STATES, last, strict=False)}
        if self.attention is not None:
            memory = states["memory"]
            context, weights = self.attention(features, memory, memory, states["valid"][:, None])
            features = torch.tanh(self.mix(torch.cat([features, context], dim=2)))
            states["attention"] = weights
        return self.head(self.dropout(features)), states

    def _start_in_parallel(self, vectors: Tensor, valid: Tensor) -> States:
        """Return the states of `start` for an encoder without one; vectors [B, S, embedding], valid [B, S]."""
        assert self.first is not None
        memory = self.encoder(vectors, valid)
        mean = (memory * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
        first = torch.tanh(self.first(mean)).unflatten(1, (-1, self.decoder.num_layers, memory.shape[2]))
        states = {name: first[:, number] for number, name in enumerate(STATES[: first.shape[1]])}
        return states if self.attention is None else states | {"memory": memory, "valid": valid}

    def _join_directions(self, state: Tensor) -> Tensor:
        """Reshape [layers * directions, B, H] to [B, layers, directions * H]."""
        return state.unflatten(0, (self.decoder.num_layers, -1)).permute(2, 0, 1, 3).flatten(2)
