"""Encode what a picture must show, a class, a caption or a sound, as a vector; trained with a conditional GAN."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Count

LETTERS = 128  # ASCII


class LabelEncoder(nn.Module):
    """Map class numbers [B] to vectors [B, width]."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: Count = 32) -> None:
        super().__init__()
        self.width = width
        self.table = nn.Embedding(classes, width)

    def forward(self, label: Tensor) -> Tensor:
        """Return vectors [B, width] of class numbers [B]."""
        return self.table(label.long())


class CaptionEncoder(nn.Module):
    """Map ASCII texts uint8 [B, L], padded with 0, to vectors [B, width].

    A convolution over `reach` letters, of which the strongest response anywhere in the text counts (Kim 2014): it finds
    words without a vocabulary, wherever they stand. filters: their number.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, width: Count = 32, filters: Count = 64, reach: Count = 7
    ) -> None:
        super().__init__()
        self.width = width
        self.body = nn.Conv1d(LETTERS, filters, reach, padding=reach // 2)
        self.head = nn.Linear(filters, width)

    def forward(self, caption: Tensor) -> Tensor:
        """Return vectors [B, width] of texts [B, L]."""
        letters = F.one_hot(caption.long(), LETTERS).float().transpose(1, 2)
        return self.head(F.relu(self.body(letters)).amax(2))


class SoundEncoder(nn.Module):
    """Map spectrograms [B, frames, bands] to vectors [B, width].

    Two convolutions over time; their strongest responses count, so a sound may begin early or late. filters: number of
    channels.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: Count = 32, filters: Count = 64) -> None:
        super().__init__()
        self.width = width
        self.body = nn.Sequential(
            nn.Conv1d(shape[-1], filters, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv1d(filters, filters, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(filters, width)

    def forward(self, sound: Tensor) -> Tensor:
        """Return vectors [B, width] of spectrograms [B, frames, bands]."""
        return self.head(self.body(sound.float().transpose(1, 2)).amax(2))
