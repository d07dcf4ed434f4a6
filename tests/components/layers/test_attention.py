"""Attention matches its formulas, torch's functions, and torch's layer with the same weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.layers.attention import Additive, DotProduct, MultiHead, masked_softmax
from components.layers.positions import sinusoids
from components.models.transformer import position_wise_network

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


@pytest.mark.parametrize("kernel", [1, 3, 5])
@torch.no_grad()
def test_a_convolution_is_attention_with_a_head_per_offset(kernel: int) -> None:
    """Write a convolution as self-attention (Cordonnier et al. 2020): head h attends to the token at offset h alone.

    Queries and keys are positions only; values are the tokens, projected by the kernel's weights at that offset.
    """
    torch.manual_seed(0)
    convolution = nn.Conv1d(D, V, kernel, padding=kernel // 2)
    x = torch.randn(B, K, D)
    padded = F.pad(x, (0, 0, kernel // 2, kernel // 2))  # a zero token at each end, as the convolution assumes
    positions = 100 * torch.eye(padded.shape[1]).expand(B, -1, -1)
    valid = torch.ones(B, 1, padded.shape[1], dtype=torch.bool)
    heads = []
    for head in range(kernel):
        queries = positions[:, head : head + K]
        result, weights = DotProduct()(queries, positions, padded @ convolution.weight[:, :, head].T, valid)
        assert torch.allclose(weights.amax(2), torch.ones(B, K))
        heads.append(result)
    output = torch.stack(heads).sum(0) + convolution.bias
    assert torch.allclose(output, convolution(x.transpose(1, 2)).transpose(1, 2), atol=1e-5)


@torch.no_grad()
def test_the_position_wise_network_is_two_convolutions_over_one_token() -> None:
    torch.manual_seed(0)
    network = position_wise_network(D, 3 * D)
    first, second = nn.Conv1d(D, 3 * D, 1), nn.Conv1d(3 * D, D, 1)
    for convolution, dense in ((first, network[0]), (second, network[2])):
        convolution.weight.copy_(dense.weight[..., None])
        convolution.bias.copy_(dense.bias)
    x = torch.randn(B, K, D)
    expected = second(F.relu(first(x.transpose(1, 2)))).transpose(1, 2)
    assert torch.allclose(network(x), expected, atol=1e-6)
