"""Attention against its formulae, torch's own functions, and torch's layer with copied weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.layers.attention import Additive, DotProduct, MultiHead, masked_softmax
from components.layers.positions import sinusoids

B, Q, K, D, V = 3, 4, 6, 8, 5


@pytest.fixture
def given() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """queries, keys, values, valid: the rows see 6, 4 and 1 keys."""
    torch.manual_seed(0)
    valid = torch.arange(K) < torch.tensor([6, 4, 1])[:, None, None]
    return torch.randn(B, Q, D), torch.randn(B, K, D), torch.randn(B, K, V), valid


def test_what_is_masked_weighs_nothing_and_changes_nothing(given) -> None:
    queries, keys, values, valid = given
    weights = masked_softmax(torch.randn(B, Q, K), valid)
    assert torch.allclose(weights.sum(2), torch.ones(B, Q))
    assert (weights[~valid.expand(B, Q, K)] == 0).all()
    changed = [torch.where(valid.transpose(1, 2), x, torch.randn_like(x)) for x in (keys, values)]
    for layer in (DotProduct(), Additive(D, D, 7)):
        assert torch.equal(layer(queries, keys, values, valid)[0], layer(queries, *changed, valid)[0])


def test_the_scaled_dot_product_is_torchs(given) -> None:
    found, _ = DotProduct()(*given)
    queries, keys, values, valid = given
    wanted = F.scaled_dot_product_attention(queries, keys, values, valid.expand(B, Q, K))
    assert torch.allclose(found, wanted, atol=1e-6)


@torch.no_grad()
def test_additive_scores_are_the_formula(given) -> None:
    queries, keys, values, valid = given
    layer = Additive(D, D, 7)
    found, weights = layer(*given)
    w, u, v = layer.query.weight, layer.key.weight, layer.score.weight[0]
    for b in range(B):
        seen = int(valid[b].sum())
        for q in range(Q):
            scores = torch.stack([v @ torch.tanh(w @ queries[b, q] + u @ keys[b, k]) for k in range(seen)])
            p = torch.exp(scores) / torch.exp(scores).sum()
            assert torch.allclose(weights[b, q, :seen], p, atol=1e-6)
            assert torch.allclose(found[b, q], p @ values[b, :seen], atol=1e-6)


@torch.no_grad()
def test_several_heads_are_torchs_layer() -> None:
    torch.manual_seed(0)
    theirs, ours = nn.MultiheadAttention(D, 2, batch_first=True), MultiHead(D, 2)
    nn.init.normal_(theirs.in_proj_bias)
    for layer, weight, bias in zip(
        (ours.query, ours.key, ours.value), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
    ):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    queries, memory = torch.randn(B, Q, D), torch.randn(B, K, D)
    valid = torch.arange(K) < torch.tensor([6, 4, 1])[:, None]
    wanted, shares = theirs(queries, memory, memory, key_padding_mask=~valid)
    found, weights = ours(queries, *ours.read(memory), valid[:, None])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(weights, shares, atol=1e-5)


def test_dropout_of_weights_acts_in_training_alone(given) -> None:
    for layer in (DotProduct(0.5), Additive(D, D, 7, 0.5)):
        assert not torch.equal(layer(*given)[0], layer(*given)[0])
        layer.eval()
        assert torch.equal(layer(*given)[0], layer(*given)[0])


def test_positions_are_the_formula() -> None:
    found = sinusoids(5, 6, first=3)
    for p in range(5):
        for i in range(3):
            angle = (p + 3) / 10000 ** (2 * i / 6)
            assert found[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert torch.allclose(sinusoids(8, 6)[3:], found)
