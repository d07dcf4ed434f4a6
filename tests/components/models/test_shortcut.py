"""The shortcut of ResNet equals torch's strided convolution, but does not write beyond its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from components.models.resnet import Shortcut

CHECKED = os.environ | {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
TRAINED = """
import torch
from components.models.resnet import Shortcut
torch.set_num_threads(1)
for width in range(1, 17):
    for _ in range(4):
        layer = Shortcut(width, 20, stride=2).to(memory_format=torch.channels_last)
        x = torch.randn(4, width, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
        torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
"""


@pytest.mark.parametrize("width", [1, 4, 15, 16, 40])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_it_matches_torchs_convolution(width: int, stride: int) -> None:
    """Compare values and gradients with those of torch, in the memory layout in which torch is correct."""
    torch.manual_seed(0)
    ours, oracle = Shortcut(width, 6, stride), nn.Conv2d(width, 6, 1, stride)
    oracle.load_state_dict(ours.state_dict())
    x = torch.randn(3, width, 7, 8, requires_grad=True)
    near = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    result, expected = ours(near), oracle(x)
    torch.testing.assert_close(result, expected)
    gradients = torch.autograd.grad(result.square().sum(), [near, *ours.parameters()])
    oracle_gradients = torch.autograd.grad(expected.square().sum(), [x, *oracle.parameters()])
    for mine, right in zip(gradients, oracle_gradients, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4)


# A byte at the end of a block of 1,000 bytes, or beyond it, as an overflow writes it.
WRITE = """
import ctypes
allocate, release = ctypes.pythonapi.PyMem_RawMalloc, ctypes.pythonapi.PyMem_RawFree
allocate.restype, allocate.argtypes, release.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
block = allocate(1000)
ctypes.memset(block + {position}, 1, 1)
release(block)
"""
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc checks the memory")


@on_linux
@pytest.mark.parametrize(("position", "code"), [(999, 0), (1000, -signal.SIGABRT)])
def test_the_allocator_notices_a_byte_beyond_a_block(position: int, code: int) -> None:
    """This control fails where the checking allocator is missing; the test below would then pass."""
    command = [sys.executable, "-c", WRITE.format(position=position)]
    done = subprocess.run(command, env=CHECKED, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


@on_linux
def test_its_gradient_stays_within_its_memory() -> None:
    """The checking allocator of glibc aborts if something writes beyond a block, as the gradient of nn.Conv2d does."""
    command = [sys.executable, "-c", TRAINED]
    done = subprocess.run(command, env=CHECKED, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
