"""Compare self-attention, convolution and recurrence over the length of a sequence: `python -m benchmarks.readers`.

For each layer of equal width: operations per sequence, steps that must follow each other, the longest path between two
tokens, and the measured seconds, with the exponent of each over the length (notes: self-attention, CNN and RNN).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from components.layers.attention import MultiHead

KERNEL = 3


class SelfAttention(nn.Module):
    """One multi-head self-attention: [B, T, width] -> [B, T, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = MultiHead(width, heads=4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the result of x."""
        valid = torch.ones(x.shape[0], 1, x.shape[1], dtype=torch.bool)
        return self.layer(x, *self.layer.project(x), valid)[0]


class Convolution(nn.Module):
    """One convolution over KERNEL tokens: [B, T, width] -> [B, T, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the result of x."""
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Recurrence(nn.Module):
    """One RNN cell over time, written as products, whose operations can be counted: [B, T, width] -> [B, T, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs, self.states = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states for x."""
        outputs = []
        state = torch.zeros_like(x[:, 0])
        for vector in self.inputs(x).unbind(1):
            state = torch.tanh(vector + self.states(state))
            outputs.append(state)
        return torch.stack(outputs, dim=1)


# layer -> (class, steps one after the other, longest path between two tokens), each of T tokens
Facts = tuple[Callable[[int], nn.Module], Callable[[int], int], Callable[[int], int]]
LAYERS: dict[str, Facts] = {
    "self-attention": (SelfAttention, lambda count: 1, lambda count: 1),
    "convolution": (Convolution, lambda count: 1, lambda count: -(-(count - 1) // (KERNEL // 2))),
    "recurrence": (Recurrence, lambda count: count, lambda count: count - 1),
}


def count_operations(layer: nn.Module, x: Tensor) -> int:
    """Return the multiplications and additions of matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        layer(x)
    return counter.get_total_flops()


def measure_seconds(layer: nn.Module, x: Tensor, rounds: int) -> float:
    """Return the least processor time of one call."""
    layer(x)
    times = []
    for _ in range(rounds):
        started = time.process_time()
        layer(x)
        times.append(time.process_time() - started)
    return min(times)


def fit_exponent(lengths: list[int], values: list[float]) -> float:
    """Return the slope of log value over log length, over the longer half of the lengths."""
    half = len(lengths) // 2
    return float(np.polyfit(np.log(lengths[half:]), np.log(values[half:]), 1)[0])


@torch.no_grad()
def main() -> int:
    """Print a table of the layers; return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    longest = arguments.lengths[-1]
    print(f"width {arguments.width}, T = {longest}: operations, steps, path, ms of one thread (exponent over T)")
    for name, (kind, steps, path) in LAYERS.items():
        layer = kind(arguments.width)
        inputs = [torch.randn(1, length, arguments.width) for length in arguments.lengths]
        operations = [float(count_operations(layer, x)) for x in inputs]
        seconds = [measure_seconds(layer, x, arguments.rounds) for x in inputs]
        exponents = [fit_exponent(arguments.lengths, values) for values in (operations, seconds)]
        print(
            f"{name:15}  {operations[-1] / 1e6:.1f} million (T^{exponents[0]:.2f})  {steps(longest)}  {path(longest)}"
            f"  {1000 * seconds[-1]:.1f} (T^{exponents[1]:.2f})",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
