"""The spectrogram equals SciPy's, and shows the formants of each word."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import stft

from components.data.digits import Digits
from components.data.sounding_digits import BANDS, FRAMES, RATE, SAMPLES, WINDOW, WORDS, SoundingDigits, spectrogram


def test_the_spectrogram_equals_scipys() -> None:
    wave = np.random.default_rng(0).standard_normal(SAMPLES)
    reference = stft(wave, RATE, np.hanning(WINDOW), WINDOW, WINDOW // 2, boundary=None, padded=False)[2]
    magnitude = np.abs(reference.T * np.hanning(WINDOW).sum())[:, 1:].reshape(FRAMES, BANDS, 2).mean(2)
    assert spectrogram(wave) == pytest.approx(np.log(0.1 + magnitude), abs=1e-5)


def test_a_tone_is_in_its_band() -> None:
    frequency = 1000
    wave = np.sin(2 * np.pi * frequency * np.arange(SAMPLES) / RATE)
    width = RATE / WINDOW * 2  # Hz per band
    assert (spectrogram(wave).argmax(1) == int((frequency - width / 4) / width)).all()


def test_sounds_tell_the_digits_apart() -> None:
    """Check that a nearest-mean classifier of spectrograms names held-out digits, and that pictures are the digits'."""
    assert len(set(WORDS)) == 10
    dataset = SoundingDigits(labels=200, validation=100, size=8)
    train, held_out = (list(dataset.examples(split, 0)) for split in ("train", "validation"))
    pictures = list(Digits(200, 8, 0, 100).examples("train", 0))
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(train, pictures, strict=True))
    labels = np.array([example["label"] for example in train])
    sounds = np.stack([example["sound"] for example in train])
    means = np.stack([sounds[labels == digit].mean(0) for digit in range(10)])
    right = [np.linalg.norm(means - example["sound"], axis=(1, 2)).argmin() == example["label"] for example in held_out]
    assert np.mean(right) > 0.8
    assert not np.array_equal(sounds[0], sounds[10])
