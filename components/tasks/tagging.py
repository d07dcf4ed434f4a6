"""Tagging of words, such as named entities: BERT with an output layer on every word (notes: fine-tuning)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.entities import entity_scores
from ..models.finetuning import Finetuning, TextReader, predict_by_length
from ..optimizers import adamw
from ..recipes.ranges import Count, Fraction, Natural, NonNegative, Proportion
from ..training.task import Batch, Shard, Spec, State, Task

ABSENT = -1  # tag of a word that is not there, or was cut off
SHOWN = 12  # sentences in the sample


class Tagging(Task):
    """Prediction of a tag of the data's `classes` for each word of the column "text", words between single spaces.

    The output layer sees the first token of each word. Words beyond `length` tokens get the first class, "O".

    The arguments are those of `tasks.sentences.SentenceClassification`.
    """

    monitor: ClassVar[tuple[str, str]] = ("f1", "max")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    targets: ClassVar[tuple[str, ...]] = ("text", "tags")
    lengths: ClassVar[tuple[str, ...]] = ("text",)
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)

    def __init__(
        self,
        model: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., Optimizer] = adamw,
        start: str | None = None,
        random: bool = False,
        length: Count = 128,
        body_rate: NonNegative = 1.0,
        layer_decay: Proportion = 1.0,
        frozen: Natural = 0,
        dropout: Fraction = 0.1,
    ) -> None:
        self.finetuning = Finetuning(model, optimizer, start, random, length, body_rate, layer_decay, frozen, dropout)
        self.classes: list[str] = []
        self.reader: TextReader

    def setup(self, spec: Spec) -> State:
        """Build the network with the weights of `start`."""
        spec.check_columns("Tagging", "text", "tags")
        self.classes = list(spec.classes)
        built = self.finetuning.build(spec.tokenizers, outputs=len(self.classes))
        self.reader = built.reader
        return State(
            {"net": built.net},
            optimizers={"net": built.optimizer},
            tokenizers=built.reader.tokenizers,
            arguments=built.arguments,
        )

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross-entropy and accuracy: means over the words."""
        rows, words = self._read(list(shard.batch["text"]))
        device = next(state.modules["net"].parameters()).device
        batch = self.reader.join([[row] for row in rows], device)
        tags = np.full(batch.tokens.shape, ABSENT, dtype=np.int64)
        for number, (places, truth) in enumerate(zip(words, shard.batch["tags"], strict=True)):
            tags[number, places + 1] = np.asarray(truth)[: len(places)]
        target = torch.from_numpy(tags).to(device)
        logits = state.modules["net"](batch.tokens, batch.segments, batch.valid).float()
        is_word = target != ABSENT
        shard.weight = is_word.sum()
        count = shard.weight.clamp(min=1)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=ABSENT, reduction="sum")
        correct = ((logits.detach().argmax(2) == target) & is_word).sum()
        return loss / count, {"accuracy": correct / count}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"tags": [B, length], "probability": [B, length]}, for each word; -1 and 0 after the last word.

        Refuses texts of a request that are empty or too long.
        """
        texts = self.reader.select(batch, self.inputs)["text"]
        rows, words = self._read(texts)
        device = next(state.modules["net"].parameters()).device

        def predict(numbers: list[int]) -> list[Tensor]:
            part = self.reader.join([[rows[number]] for number in numbers], device)
            probability = state.modules["net"](part.tokens, part.segments, part.valid).float().softmax(2)
            return list(probability.max(2))

        tags = torch.full((len(rows), self.reader.length), ABSENT)
        probability = torch.zeros(tags.shape)
        results = predict_by_length([[row] for row in rows], predict)
        for number, (certainty, tag) in enumerate(results):
            places = torch.from_numpy(words[number] + 1)
            tags[number, : len(texts[number].split())] = 0
            tags[number, : len(places)] = tag.cpu()[places]
            probability[number, : len(places)] = certainty.cpu()[places]
        return {"tags": tags, "probability": probability}

    def _read(self, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the tokens of each text, and the places of the first token of each of its words; both cut to fit."""
        encodings = self.reader.tokenizer.library.encode_batch(
            [text.split() for text in texts], is_pretokenized=True, add_special_tokens=False
        )
        rows, words = [], []
        for encoding, text in zip(encodings, texts, strict=True):
            owners = np.array(encoding.word_ids)[: self.reader.length - 2]
            rows.append(np.array(encoding.ids, dtype=np.int32)[: self.reader.length - 2])
            # A word without tokens, such as a lone accent, is found at the place of the next one.
            places = np.searchsorted(owners, np.arange(len(text.split())))
            words.append(places[places < len(owners)])
        return rows, words

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return the texts of examples."""
        return {"text": [self.reader.shorten(text) for text in batch["text"]]}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return precision, recall and F1 over entities, and the accuracy over words."""
        predicted, truth = self._name_tags(predictions, targets)
        pairs = [(a, b) for row, other in zip(predicted, truth, strict=True) for a, b in zip(row, other, strict=True)]
        return entity_scores(predicted, truth) | {"accuracy": float(np.mean([a == b for a, b in pairs]))}

    def _name_tags(
        self, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Return the predicted and the true tags by name; words beyond the prediction are "O"."""
        truth = [[self.classes[tag] for tag in np.asarray(row)] for row in targets["tags"]]
        predicted = []
        for row, names in zip(predictions["tags"], truth, strict=True):
            tags = [self.classes[max(tag, 0)] for tag in row[: len(names)].tolist()]
            predicted.append(tags + [self.classes[0]] * (len(names) - len(tags)))
        return predicted, truth

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """Return sentences with the entities that were predicted, and the truth where it is another."""
        predicted, truth = self._name_tags(predictions, targets)
        rows = [row for row, names in enumerate(truth) if {*names, *predicted[row]} != {self.classes[0]}][:SHOWN]
        lines = []
        for row in rows:
            words = targets["text"][row].split()
            lines.append(f"{'right' if predicted[row] == truth[row] else 'WRONG'}  {_mark(words, predicted[row])}")
            if predicted[row] != truth[row]:
                lines.append(f"       {_mark(words, truth[row])}  (the truth)")
        return {"entities": "\n".join(lines)} if lines else {}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the body's weights come from."""
        return self.finetuning.describe()


def _mark(words: Sequence[str], tags: Sequence[str]) -> str:
    """Return a text in which each word that has a tag is followed by it."""
    return " ".join(word if tag == "O" else f"{word}[{tag}]" for word, tag in zip(words, tags, strict=True))
