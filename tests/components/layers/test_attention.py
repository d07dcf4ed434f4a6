"""Attention matches its formulas, torch's functions, and torch's layer with the same weights."""

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
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return queries, keys, values and valid, where the rows have 6, 4 and 1 valid keys."""
    torch.manual_seed(0)
    valid = torch.arange(K) < torch.tensor([6, 4, 1])[:, None, None]
    return torch.randn(B, Q, D), torch.randn(B, K, D), torch.randn(B, K, V), valid


def test_masked_keys_have_no_weight_and_no_effect(inputs) -> None:
    queries, keys, values, valid = inputs
    weights = masked_softmax(torch.randn(B, Q, K), valid)
    assert torch.allclose(weights.sum(2), torch.ones(B, Q))
    assert (weights[~valid.expand(B, Q, K)] == 0).all()
    changed = [torch.where(valid.transpose(1, 2), x, torch.randn_like(x)) for x in (keys, values)]
    for layer in (DotProduct(), Additive(D, D, 7)):
        assert torch.equal(layer(queries, keys, values, valid)[0], layer(queries, *changed, valid)[0])


def test_the_scaled_dot_product_matches_torch(inputs) -> None:
    result, _ = DotProduct()(*inputs)
    queries, keys, values, valid = inputs
    expected = F.scaled_dot_product_attention(queries, keys, values, valid.expand(B, Q, K))
    assert torch.allclose(result, expected, atol=1e-6)


@torch.no_grad()
def test_additive_attention_follows_the_formula(inputs) -> None:
    queries, keys, values, valid = inputs
    layer = Additive(D, D, 7)
    result, weights = layer(*inputs)
    w, u, v = layer.query.weight, layer.key.weight, layer.score.weight[0]
    for b in range(B):
        visible = int(valid[b].sum())
        for q in range(Q):
            scores = torch.stack([v @ torch.tanh(w @ queries[b, q] + u @ keys[b, k]) for k in range(visible)])
            p = torch.exp(scores) / torch.exp(scores).sum()
            assert torch.allclose(weights[b, q, :visible], p, atol=1e-6)
            assert torch.allclose(result[b, q], p @ values[b, :visible], atol=1e-6)


@torch.no_grad()
def test_several_heads_match_torchs_layer() -> None:
    torch.manual_seed(0)
    oracle, ours = nn.MultiheadAttention(D, 2, batch_first=True), MultiHead(D, 2)
    nn.init.normal_(oracle.in_proj_bias)
    for layer, weight, bias in zip(
        (ours.query, ours.key, ours.value), oracle.in_proj_weight.chunk(3), oracle.in_proj_bias.chunk(3), strict=True
    ):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    ours.out.load_state_dict(oracle.out_proj.state_dict())
    queries, memory = torch.randn(B, Q, D), torch.randn(B, K, D)
    valid = torch.arange(K) < torch.tensor([6, 4, 1])[:, None]
    expected, shares = oracle(queries, memory, memory, key_padding_mask=~valid)
    result, weights = ours(queries, *ours.project(memory), valid[:, None])
    assert torch.allclose(result, expected, atol=1e-5)
    assert torch.allclose(weights, shares, atol=1e-5)


def test_dropout_of_weights_acts_only_in_training(inputs) -> None:
    for layer in (DotProduct(0.5), Additive(D, D, 7, 0.5)):
        assert not torch.equal(layer(*inputs)[0], layer(*inputs)[0])
        layer.eval()
        assert torch.equal(layer(*inputs)[0], layer(*inputs)[0])


def test_positions_follow_the_formula() -> None:
    result = sinusoids(5, 6, first=3)
    for p in range(5):
        for i in range(3):
            angle = (p + 3) / 10000 ** (2 * i / 6)
            assert result[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert result[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert torch.allclose(sinusoids(8, 6)[3:], result)
