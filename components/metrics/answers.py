"""Score answers to questions by SQuAD's metric (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter


def normalise_answer(text: str) -> str:
    """Return a text in lower case without punctuation, articles and superfluous spaces."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_answer(answer: str, truth: str) -> float:
    """Return 1 if both texts are the same after normalisation, otherwise 0."""
    return float(normalise_answer(answer) == normalise_answer(truth))


def answer_f1(answer: str, truth: str) -> float:
    """Return the F1 of the words that both texts share."""
    words, true_words = normalise_answer(answer).split(), normalise_answer(truth).split()
    if not words or not true_words:
        return float(words == true_words)
    common = sum((Counter(words) & Counter(true_words)).values())
    return 2 * common / (len(words) + len(true_words))
