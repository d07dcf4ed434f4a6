"""Handwritten digits, each with a synthetic sound that names it, as a spectrogram: no download.

A sound imitates a spoken word: two formants glide through three vowel positions, which differ from digit to digit.
Speakers differ in the length of their voice tract (all frequencies), in speed and loudness, and there is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recipes.ranges import Count, Natural, NonNegative
from ..storage.store import Column
from .digits import SPLITS, Digits

RATE = 4000  # samples per second
SAMPLES = 2048
WINDOW = 128  # samples per frame of the spectrogram, which follow each other at half of it
FRAMES = 2 * SAMPLES // WINDOW - 1
BANDS = 32  # each the mean of two frequencies
# Formant frequencies in Hz of each vowel, and the three in each digit's word
VOWELS = {"i": (300, 1700), "e": (480, 1500), "a": (750, 1150), "o": (500, 850), "u": (320, 700)}
WORDS = ("eio", "uae", "iuu", "uii", "ooa", "aie", "iei", "eae", "eoi", "aua")


class SoundingDigits:
    """The digits of `data.digits.Digits`, each with a sound: float32 [31 frames, 32 bands], log magnitudes.

    noise: standard deviation of the noise in the wave, whose own amplitude is about 1.
    """

    name = "sounding-digits"
    licence = Digits.licence
    source = f"{Digits.source}; sounds synthesised here"

    def __init__(
        self,
        labels: Count = 1000,
        size: Count = 16,
        seed: Natural = 0,
        validation: Natural = 400,
        noise: NonNegative = 0.1,
    ) -> None:
        self.digits = Digits(labels, size, seed, validation)
        self.classes = self.digits.classes
        self.seed = seed
        self.noise = noise
        self.columns = {**self.digits.columns, "sound": Column("float32", (FRAMES, BANDS))}

    def parts(self) -> dict[str, int]:
        """Return {split: 1} for each split that has examples."""
        return self.digits.parts()

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the digits of a split, each with a sound of its own."""
        random = np.random.default_rng([self.seed, SPLITS.index(split)])
        for example in self.digits.examples(split, part):
            yield {**example, "sound": spectrogram(pronounce(example["label"], self.noise, random))}


def pronounce(digit: int, noise: float, random: np.random.Generator) -> np.ndarray:
    """Return a random speaker's wave of the word for `digit`: float64 [2048]."""
    positions = np.array([VOWELS[letter] for letter in WORDS[digit]], dtype=float)
    length = random.uniform(0.6, 0.9) * SAMPLES
    start = random.uniform(0, SAMPLES - length)
    time = (np.arange(SAMPLES) - start) / length  # 0 to 1 within the word
    frequencies = random.uniform(0.92, 1.08) * np.stack([np.interp(3 * time - 0.5, range(3), f) for f in positions.T])
    phase = 2 * np.pi * np.cumsum(frequencies, axis=1) / RATE + random.uniform(0, 2 * np.pi, (2, 1))
    envelope = np.clip(np.minimum(time, 1 - time) * 8, 0, 1) * random.uniform(0.7, 1.3)
    return envelope * (np.sin(phase) * [[1.0], [0.7]]).sum(0) + noise * random.standard_normal(SAMPLES)


def spectrogram(wave: np.ndarray) -> np.ndarray:
    """Return the log magnitudes of a wave [2048] under Hann windows: float32 [31 frames, 32 bands]."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[:: WINDOW // 2]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1))[:, 1:]
    return np.log(0.1 + magnitude.reshape(FRAMES, BANDS, 2).mean(2)).astype(np.float32)
