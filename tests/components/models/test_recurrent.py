"""RNN, GRU and LSTM follow the equations of the notes; only bidirectional ones see the future."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from components.models.recurrent import Recurrent

CELLS = ["rnn", "gru", "lstm"]
CLASSES, HIDDEN = 7, 5


def weights(body: nn.Module, layer: int, way: str = "") -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(body, f"{name}_l{layer}{way}") for name in names]


def unrolled(cell: str, body: nn.Module, layer: int, x: Tensor, reset: str = "after", way: str = "") -> Tensor:
    """Return the hidden states [T, H] of one layer for x [T, F], by the equations of the notes.

    reset: where the reset gate of a GRU acts, on the state ("before", the notes) or on its product ("after", cuDNN).
    """
    w, u, b, c = weights(body, layer, way)
    h = memory = torch.zeros(HIDDEN)
    states = []
    for step in x:
        of_x, of_h = (w @ step + b).split(HIDDEN), (u @ h + c).split(HIDDEN)
        if cell == "rnn":
            h = torch.tanh(of_x[0] + of_h[0])
        elif cell == "gru":
            r, z = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
            old = r * of_h[2] if reset == "after" else u[2 * HIDDEN :] @ (r * h)
            h = z * h + (1 - z) * torch.tanh(of_x[2] + old)
        else:
            i, f, o = (torch.sigmoid(of_x[n] + of_h[n]) for n in (0, 1, 3))
            memory = f * memory + i * torch.tanh(of_x[2] + of_h[2])
            h = o * torch.tanh(memory)
        states.append(h)
    return torch.stack(states)


@pytest.fixture
def tokens() -> Tensor:
    torch.manual_seed(0)
    return torch.randint(CLASSES, (3, 11))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "embedding"), [(1, 0), (2, 4)])
@torch.no_grad()
def test_it_follows_the_equations_of_the_notes(cell: str, layers: int, embedding: int, tokens: Tensor) -> None:
    net = Recurrent(CLASSES, cell, embedding, HIDDEN, layers).eval()
    logits, states = net(tokens)
    table = net.embedding.weight if net.embedding is not None else torch.eye(CLASSES)
    for row, text in enumerate(tokens):
        x, last = table[text], []
        for layer in range(layers):
            x = unrolled(cell, net.body, layer, x)
            last.append(x[-1])
        assert torch.allclose(logits[row], net.head(x), atol=1e-5)
        assert torch.allclose(states["hidden"][row], torch.stack(last), atol=1e-5)
    assert set(states) == ({"hidden", "cell"} if cell == "lstm" else {"hidden"})


@torch.no_grad()
def test_both_reset_gates_agree_for_a_diagonal_product(tokens: Tensor) -> None:
    """torch's GRU resets U h, that of the notes resets h, which is the same only for a diagonal U without bias."""
    net = Recurrent(CLASSES, "gru", 0, HIDDEN).eval()
    x = torch.eye(CLASSES)[tokens[0]]
    assert not torch.allclose(net(tokens)[0][0], net.head(unrolled("gru", net.body, 0, x, "before")), atol=1e-3)
    _, u, _, c = weights(net.body, 0)
    u[2 * HIDDEN :] = torch.diag(torch.randn(HIDDEN))
    c[2 * HIDDEN :] = 0
    assert torch.allclose(net(tokens)[0][0], net.head(unrolled("gru", net.body, 0, x, "before")), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_a_text_in_pieces_gives_the_same_logits(cell: str, tokens: Tensor) -> None:
    net = Recurrent(CLASSES, cell, 4, HIDDEN, layers=2, dropout=0.5).eval()
    complete, end = net(tokens)
    first, states = net(tokens[:, :4])
    second, states = net(tokens[:, 4:], states)
    assert torch.allclose(torch.cat([first, second], dim=1), complete, atol=1e-6)
    assert all(torch.allclose(states[name], end[name], atol=1e-6) for name in end)


@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_only_a_bidirectional_network_sees_the_future(bidirectional: bool, tokens: Tensor) -> None:
    net = Recurrent(CLASSES, "gru", 0, HIDDEN, bidirectional=bidirectional).eval()
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % CLASSES
    same = torch.isclose(net(tokens)[0], net(changed)[0], atol=1e-7).all(dim=2)
    assert same[:, :-1].all() != bidirectional
    assert not same[:, -1].any()


@torch.no_grad()
def test_both_directions_are_two_parallel_networks(tokens: Tensor) -> None:
    net = Recurrent(CLASSES, "lstm", 0, HIDDEN, bidirectional=True).eval()
    x = torch.eye(CLASSES)[tokens[0]]
    there = unrolled("lstm", net.body, 0, x)
    back = unrolled("lstm", net.body, 0, x.flip(0), way="_reverse").flip(0)
    assert torch.allclose(net(tokens)[0][0], net.head(torch.cat([there, back], dim=1)), atol=1e-5)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_the_number_of_parameters(cell: str, gates: int) -> None:
    net = Recurrent(28, cell, hidden=256)
    assert sum(p.numel() for p in net.parameters()) == gates * 256 * (28 + 256 + 2) + 257 * 28


def test_dropout_acts_only_in_training(tokens: Tensor) -> None:
    net = Recurrent(CLASSES, "gru", 0, HIDDEN, dropout=0.5)
    assert not torch.equal(net(tokens)[0], net(tokens)[0])
    net.eval()
    assert torch.equal(net(tokens)[0], net(tokens)[0])
