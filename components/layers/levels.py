"""Convert pictures between bytes, as they are stored, and the range -1..1, in which generators work."""

from __future__ import annotations

from torch import Tensor


def to_signed(pictures: Tensor) -> Tensor:
    """Return pictures uint8 [B, H, W, C] as float [B, C, H, W] in -1..1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pictures: Tensor) -> Tensor:
    """Return pictures [B, C, H, W] in -1..1 as uint8 [B, H, W, C]."""
    return ((pictures.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
