"""BERT against Hugging Face's with the same weights: losses and all hidden states; published parameter counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from components.errors import Refusal
from components.models.bert import BERT, FinetuningNet, PretrainingNet
from components.models.bert_folder import from_hugging_face, to_hugging_face

TOKENS = 30522
SMALL = {"width": 32, "layers": 3, "heads": 4, "inner": 64, "positions": 24}


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("sizes", "body", "pretraining"),
    [
        ({}, 109_482_240, 110_106_428),
        ({"width": 1024, "layers": 24, "heads": 16, "inner": 4096}, 335_141_888, 336_226_108),
    ],
    ids=["base", "large"],
)
def test_base_and_large_have_the_published_sizes(sizes: dict, body: int, pretraining: int) -> None:
    """Compare with BertModel and BertForPreTraining: the paper rounds these to 110 and 340 million."""
    with torch.device("meta"):
        net = PretrainingNet(BERT(TOKENS, **sizes))
    assert count(net.body) == body
    assert count(net) == pretraining


def reference(vocabulary: int = 50):
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    net = BertForPreTraining(config).eval()
    for p in net.parameters():  # biases and norms away from their first values
        torch.nn.init.normal_(p, std=0.3)
    return net


def test_losses_and_all_hidden_states_are_those_of_transformers() -> None:
    original = reference()
    ours = PretrainingNet(BERT(50, **SMALL)).eval()
    ours.load_state_dict(from_hugging_face(original.state_dict(), layers=3))
    tokens, lengths = torch.randint(1, 50, (5, 20)), torch.tensor([20, 7, 13, 20, 2])
    segments = (torch.arange(20) > 6).long().expand(5, -1)
    valid = torch.arange(20) < lengths[:, None]
    positions = torch.tensor([[0, 3], [6, 2], [12, 7], [19, 18], [1, 0]])
    targets = torch.randint(0, 50, (5, 2))
    labels = torch.full((5, 20), -100).scatter(1, positions, targets)
    following = torch.tensor([0, 1, 1, 0, 1])
    with torch.no_grad():
        expected = original(
            tokens,
            valid.long(),
            segments,
            labels=labels,
            next_sentence_label=following,
            output_hidden_states=True,
        )
        states = ours.body.hidden_states(tokens, segments, valid)
        logits, order, hidden = ours(tokens, segments, valid, positions)
    assert len(states) == 4
    for mine, other in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine[valid], other[valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden, states[-1])
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + F.cross_entropy(order, following)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(order, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)


def test_weights_go_to_transformers_and_back_unchanged() -> None:
    ours = PretrainingNet(BERT(50, **SMALL)).state_dict()
    back = from_hugging_face(to_hugging_face(ours), layers=3)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_padding_changes_nothing_and_gets_no_gradient() -> None:
    net = BERT(50, **SMALL).eval()
    tokens = torch.randint(1, 50, (2, 9))
    padded = F.pad(tokens, (0, 4), value=7)
    valid = torch.arange(13).expand(2, -1) < 9
    torch.testing.assert_close(net(padded, None, valid)[:, :9], net(tokens), atol=1e-6, rtol=1e-5)


def test_a_finetuned_net_adds_an_output_layer_alone() -> None:
    body = BERT(50, **SMALL)
    for pooling, shape in (("first", (2, 5)), ("mean", (2, 5)), (None, (2, 9, 5))):
        net = FinetuningNet(body, 5, pooling)
        assert count(net) - count(body) == 33 * 5
        tokens = torch.ones(2, 9, dtype=torch.long)
        assert net(tokens, torch.zeros_like(tokens), tokens > 0).shape == shape


def test_mean_pooling_leaves_out_padding() -> None:
    net = FinetuningNet(BERT(50, **SMALL), 5, "mean").eval()
    tokens, length = torch.randint(1, 50, (3, 9)), [9, 4, 1]
    valid = torch.arange(9) < torch.tensor(length)[:, None]
    logits = net(tokens, torch.zeros_like(tokens), valid)
    for row, count in enumerate(length):
        hidden = net.body(tokens[row : row + 1, :count])
        torch.testing.assert_close(logits[row], net.head(hidden[0].mean(0)), atol=1e-6, rtol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task.model.width: 32 must be a multiple of heads: 5"):
        BERT(50, width=32, heads=5)
