"""The GPT equals GPT-2 of the library transformers, with and without a cache, and sees the past alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.errors import Refusal
from components.models.gpt import GPT

CLASSES, CONTEXT = 11, 12


@pytest.fixture
def net() -> GPT:
    torch.manual_seed(0)
    net = GPT(CLASSES, CONTEXT, width=16, heads=2, layers=3, dropout=0.3)
    for parameter in net.parameters():
        # larger weights than initial ones, so that every part changes the result
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(CLASSES, (3, CONTEXT), generator=torch.Generator().manual_seed(1))


# our name of a layer -> GPT-2's, whose dense layers hold the transposed weights
LAYERS = {
    "attention_norm": "ln_1",
    "queries_keys_values": "attn.c_attn",
    "attention_out": "attn.c_proj",
    "network_norm": "ln_2",
    "inner": "mlp.c_fc",
    "network_out": "mlp.c_proj",
}


@torch.no_grad()
def test_it_equals_gpt2_with_the_same_weights(net: GPT, tokens: Tensor) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    oracle = GPT2LMHeadModel(
        GPT2Config(vocab_size=CLASSES, n_positions=CONTEXT, n_embd=16, n_layer=3, n_head=2, tie_word_embeddings=True)
    ).eval()
    weights = oracle.state_dict()
    copied = {
        "wte.weight": net.embedding.weight,
        "wpe.weight": net.position.weight,
        "ln_f.weight": net.norm.weight,
        "ln_f.bias": net.norm.bias,
    }
    for n, block in enumerate(net.blocks):
        for own, other in LAYERS.items():
            layer = getattr(block, own)
            copied[f"h.{n}.{other}.weight"] = layer.weight.T if layer.weight.dim() > 1 else layer.weight
            copied[f"h.{n}.{other}.bias"] = layer.bias
    for name, value in copied.items():
        weights[f"transformer.{name}"].copy_(value)
    assert len(copied) == len([name for name in weights if name.startswith("transformer.")])
    output = oracle(tokens, labels=tokens)
    logits = net(tokens)[0]
    assert torch.allclose(logits, output.logits, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(output.loss.item(), abs=1e-5)


@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 6], [1, 11]])
@torch.no_grad()
def test_cached_keys_and_values_change_nothing(pieces: list[int], net: GPT, tokens: Tensor) -> None:
    states: dict[str, Tensor] = {}
    logits = []
    for piece in tokens.split(pieces, dim=1):
        part, states = net(piece, states)
        logits.append(part)
    assert torch.allclose(torch.cat(logits, dim=1), net(tokens)[0], atol=1e-5)
    assert states["keys.2"].shape == states["values.0"].shape == (3, 2, 12, 8)


@torch.no_grad()
def test_a_token_sees_only_those_before_it(net: GPT, tokens: Tensor) -> None:
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % CLASSES
    same = torch.isclose(net(tokens)[0], net(changed)[0], atol=1e-6).all(dim=2)
    assert same[:, :7].all()
    assert not same[:, 7:].any()


@torch.no_grad()
def test_a_text_beyond_the_context_forgets_its_older_half(net: GPT, tokens: Tensor) -> None:
    _, states = net(tokens)
    logits, states = net(tokens[:, :1], states)
    newer = torch.cat([tokens[:, 6:], tokens[:, :1]], dim=1)
    assert torch.equal(states["token"], newer)
    assert torch.allclose(logits, net(newer)[0][:, -1:], atol=1e-5)
    again, _ = net(tokens[:, 1:3], states)
    assert torch.allclose(again, net(torch.cat([newer, tokens[:, 1:3]], dim=1))[0][:, -2:], atol=1e-5)
    alone, states = net(tokens, states)
    assert torch.allclose(alone, net(tokens)[0], atol=1e-5)
    assert states["token"].shape == (3, 12)


def test_output_and_input_share_their_weights(net: GPT) -> None:
    parameters = sum(p.numel() for p in net.parameters())
    layer = 4 * 16 + (16 + 1) * 48 + (16 + 1) * 16 + (16 + 1) * 64 + (64 + 1) * 16
    assert parameters == (CLASSES + CONTEXT) * 16 + 3 * layer + 2 * 16


def test_initial_weights_are_those_of_gpt2() -> None:
    net = GPT(500, width=64, layers=8)
    assert net.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert net.blocks[0].inner.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert net.blocks[3].network_out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert net.blocks[3].inner.bias.abs().max() == 0
    assert (net.norm.weight == 1).all()


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task\.model\.width: 10 must be a multiple of heads: 4"):
        GPT(CLASSES, width=10)
    with pytest.raises(Refusal, match=r"task\.model\.context: 4 is smaller than a window of 5 tokens"):
        GPT(CLASSES, context=4, width=8, heads=1)(torch.zeros(1, 5, dtype=torch.long))
