"""Translators give the same logits for a text in pieces, ignore padding, and do not see the future.

The Transformer matches torch's with the same weights.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from components.data.parallel import PAD
from components.errors import Refusal
from components.models.seq2seq import Seq2Seq
from components.models.transformer import Transformer

SOURCES, TARGETS, S, T = 11, 9, 7, 6
RECURRENT = {
    f"{cell}-{attention}{'-both' if both else ''}": partial(
        Seq2Seq,
        cell=cell,
        embedding=5,
        hidden=8,
        layers=2,
        dropout=0.5,
        attention=attention,
        bidirectional=both,
    )
    for cell, attention, both in (
        ("gru", "none", False),
        ("gru", "additive", True),
        ("lstm", "dot", False),
        ("lstm", "none", True),
    )
}
PARALLEL = {
    f"{encoder}-{cell}": partial(
        Seq2Seq, cell=cell, embedding=5, hidden=8, layers=2, dropout=0.5, attention=attention, encoder=encoder
    )
    for encoder, cell, attention in (("cnn", "gru", "dot"), ("cnn", "lstm", "none"), ("self-attention", "gru", "none"))
}
MODELS = {**RECURRENT, **PARALLEL, "transformer": partial(Transformer, width=8, heads=2, inner=12, dropout=0.5)}
every = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name](sources=SOURCES, targets=TARGETS).eval()


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Return source [4, S] of 7, 4, 1 and 5 tokens, and tokens [4, T]."""
    torch.manual_seed(1)
    source = torch.randint(4, SOURCES, (4, S))
    return source.masked_fill(torch.arange(S) >= torch.tensor([7, 4, 1, 5])[:, None], PAD), torch.randint(
        1, TARGETS, (4, T)
    )


@every
@torch.no_grad()
def test_a_target_in_pieces_gives_the_same_logits(name: str, rows: tuple[Tensor, Tensor]) -> None:
    """The cached states of a decoder change no result."""
    net = build(name)
    complete = net(*rows)
    assert complete.shape == (4, T, TARGETS)
    states, source_weights, pieces = net.start(rows[0]), [], []
    for piece in rows[1].split([1, 1, 3, 1], dim=1):
        logits, states = net.decode(piece, states)
        pieces.append(logits)
        source_weights.append(states.get("attention"))
    assert torch.allclose(torch.cat(pieces, dim=1), complete, atol=1e-5)
    if source_weights[0] is not None:
        weights = torch.cat(source_weights, dim=1)
        assert torch.allclose(weights, net.decode(rows[1], net.start(rows[0]))[1]["attention"], atol=1e-5)
        assert torch.allclose(weights.sum(2), torch.ones(4, T), atol=1e-5)


@every
@torch.no_grad()
def test_a_row_does_not_depend_on_other_rows_or_padding(name: str, rows: tuple[Tensor, Tensor]) -> None:
    net, (source, tokens) = build(name), rows
    together = net(source, tokens)
    for row, length in enumerate((7, 4, 1, 5)):
        alone = net(source[row : row + 1, :length], tokens[row : row + 1])
        assert torch.allclose(alone[0], together[row], atol=1e-5)


@every
@torch.no_grad()
def test_no_step_sees_a_later_token_and_each_sees_the_source(name: str, rows: tuple[Tensor, Tensor]) -> None:
    net, (source, tokens) = build(name), rows
    later, other = tokens.clone(), source.clone()
    later[:, 3] = later[:, 3] % (TARGETS - 1) + 1
    other[:, 0] = (other[:, 0] - 3) % (SOURCES - 4) + 4
    same = torch.isclose(net(source, tokens), net(source, later), atol=1e-7).all(2)
    assert same[:, :3].all()
    assert not same[:, 3:].any()
    assert not torch.isclose(net(source, tokens), net(other, tokens), atol=1e-7).all(2).any()


@pytest.mark.parametrize("name", RECURRENT)
@torch.no_grad()
def test_the_decoder_starts_with_the_last_states_of_the_encoder(name: str, rows: tuple[Tensor, Tensor]) -> None:
    """A decoder with the weights of a one-way encoder continues as if the target followed the source."""
    net = build(name)
    if net.encoder.bidirectional:
        there = net.encoder(net.source(rows[0][:1]))[1]
        there = there[0] if isinstance(there, tuple) else there  # layer 1 there, back; layer 2 there, back
        expected = torch.cat([torch.cat([there[0], there[1]], dim=1), torch.cat([there[2], there[3]], dim=1)])
        assert torch.allclose(net.start(rows[0])["hidden"][0], expected, atol=1e-6)
        return
    net.decoder.load_state_dict(net.encoder.state_dict())
    for row, length in enumerate((7, 4, 1, 5)):
        source, target = net.source(rows[0][row, :length]), net.target(rows[1][row])
        after = net.encoder(torch.cat([source, target])[None])[1]
        hidden = after[0] if isinstance(after, tuple) else after
        assert torch.allclose(net.decode(rows[1], net.start(rows[0]))[1]["hidden"][row], hidden[:, 0], atol=1e-5)


def copy_attention(ours: nn.Module, oracle: nn.MultiheadAttention) -> None:
    """Copy the weights of our attention into torch's."""
    oracle.in_proj_weight.copy_(torch.cat([layer.weight for layer in (ours.query, ours.key, ours.value)]))
    oracle.in_proj_bias.copy_(torch.cat([layer.bias for layer in (ours.query, ours.key, ours.value)]))
    oracle.out_proj.load_state_dict(ours.out.state_dict())


@torch.no_grad()
def test_the_transformer_matches_torchs_with_the_same_weights(rows: tuple[Tensor, Tensor]) -> None:
    net, (source, tokens) = build("transformer"), rows
    for parameter in net.parameters():
        if parameter.dim() == 1:  # biases and norms that are no longer 0 and 1
            nn.init.normal_(parameter)
    oracle = nn.Transformer(8, 2, 2, 2, 12, batch_first=True).eval()
    oracle.encoder.use_nested_tensor = oracle.encoder.enable_nested_tensor = False
    oracle.encoder.norm = oracle.decoder.norm = None  # torch has norms behind the last layers, the paper does not
    for ours, layer in zip([*net.encoder, *net.decoder], [*oracle.encoder.layers, *oracle.decoder.layers], strict=True):
        copy_attention(ours.own, layer.self_attn)
        if hasattr(ours, "cross"):
            copy_attention(ours.cross, layer.multihead_attn)
        for number, norm in enumerate(ours.norms, 1):
            getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
        layer.linear1.load_state_dict(ours.network[0].state_dict())
        layer.linear2.load_state_dict(ours.network[2].state_dict())
    padding = source == PAD
    causal = nn.Transformer.generate_square_subsequent_mask(T)
    x, y = net._embed(net.source(source), 0), net._embed(net.target(tokens), 0)
    decoded = oracle(x, y, tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    assert torch.allclose(net(source, tokens), net.head(decoded), atol=1e-5)


def test_dropout_acts_only_in_training(rows: tuple[Tensor, Tensor]) -> None:
    for name in MODELS:
        net = build(name)
        assert torch.equal(net(*rows), net(*rows))
        net.train()
        assert not torch.equal(net(*rows), net(*rows))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task\.model\.hidden: 9 is odd"):
        Seq2Seq(SOURCES, TARGETS, hidden=9, bidirectional=True)
    with pytest.raises(Refusal, match=r"task\.model\.encoder: cnn reads both directions at once"):
        Seq2Seq(SOURCES, TARGETS, hidden=16, bidirectional=True, encoder="cnn")
    with pytest.raises(Refusal, match=r"task\.model\.width: 10 must be even and a multiple of heads: 4"):
        Transformer(SOURCES, TARGETS, width=10)
