"""Answers to questions as parts of a text: BERT with a start and an end on every token (notes: fine-tuning)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.answers import answer_f1, exact_answer
from ..models.finetuning import Finetuning, TextReader, predict_by_length
from ..optimizers import adamw
from ..recipes.ranges import Count, Fraction, Natural, NonNegative, Proportion
from ..training.task import Batch, Shard, Spec, State, Task

ABSENT = -100  # start and end of an answer that was cut off
SHOWN = 12  # questions in the sample
ANSWER_TOKENS = 30  # most tokens of an answer


class Question(NamedTuple):
    """A question and its context as tokens, and where each token of the context is in the text."""

    parts: list[np.ndarray]
    offsets: list[tuple[int, int]]

    @property
    def first(self) -> int:
        """Return the place of the context's first token in the row."""
        return len(self.parts[0]) + 2


class Answering(Task):
    """Prediction of the part of "context" that answers "question"; the data have its text "answer" and its "start".

    Contexts are cut so that question, context and marks have `length` tokens. An answer behind the cut is not trained
    on, and counts as wrong in an evaluation.

    The arguments are those of `tasks.sentences.SentenceClassification`.
    """

    monitor: ClassVar[tuple[str, str]] = ("f1", "max")
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    targets: ClassVar[tuple[str, ...]] = ("question", "answer")
    lengths: ClassVar[tuple[str, ...]] = ("context",)
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)

    def __init__(
        self,
        model: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., Optimizer] = adamw,
        start: str | None = None,
        random: bool = False,
        length: Count = 384,
        body_rate: NonNegative = 1.0,
        layer_decay: Proportion = 1.0,
        frozen: Natural = 0,
        dropout: Fraction = 0.1,
    ) -> None:
        self.finetuning = Finetuning(model, optimizer, start, random, length, body_rate, layer_decay, frozen, dropout)
        self.reader: TextReader

    def setup(self, spec: Spec) -> State:
        """Build the network with the weights of `start`."""
        spec.check_columns("Answering", "question", "context", "answer", "start")
        built = self.finetuning.build(spec.tokenizers, outputs=2)
        self.reader = built.reader
        return State(
            {"net": built.net},
            optimizers={"net": built.optimizer},
            tokenizers=built.reader.tokenizers,
            arguments=built.arguments,
        )

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of the cross-entropies of start and end, over the questions whose answer is not cut off."""
        questions = self._read(shard.batch)
        device = next(state.modules["net"].parameters()).device
        batch = self.reader.join([question.parts for question in questions], device)
        places = [
            find_span(question, start, start + len(answer))
            for question, start, answer in zip(
                questions, shard.batch["start"].tolist(), shard.batch["answer"], strict=True
            )
        ]
        target = torch.tensor(places, device=device)
        is_there = target[:, 0] != ABSENT
        shard.weight = is_there.sum()
        count = shard.weight.clamp(min=1)
        logits = self._logits(state, questions, batch)
        loss = sum(
            F.cross_entropy(logits[:, :, side], target[:, side], ignore_index=ABSENT, reduction="sum")
            for side in range(2)
        )
        correct = (logits.detach().argmax(1) == target).all(1).sum()
        return loss / (2 * count), {"accuracy": correct / count}

    def predict(self, state: State, batch: Batch) -> dict[str, Any]:
        """Return {"answer": [B] texts, "start": [B] their places in the context, "probability": [B]}.

        Refuses texts of a request that are empty or too long.
        """
        questions = self._read(batch)
        device = next(state.modules["net"].parameters()).device

        def predict(numbers: list[int]) -> list[Tensor]:
            chosen = [questions[number] for number in numbers]
            logits = self._logits(state, chosen, self.reader.join([question.parts for question in chosen], device))
            return best_spans(logits)

        results = predict_by_length([question.parts for question in questions], predict)
        answers, starts = [], []
        for question, context, (first, last, _) in zip(questions, batch["context"], results, strict=True):
            start = question.offsets[int(first) - question.first][0]
            end = question.offsets[int(last) - question.first][1]
            answers.append(context[start:end])
            starts.append(start)
        probability = torch.stack([result[2] for result in results])
        return {"answer": np.array(answers), "start": np.array(starts), "probability": probability}

    def _logits(self, state: State, questions: list[Question], batch: Any) -> Tensor:
        """Return logits [B, T, 2] of start and end, minus infinity outside of the context."""
        logits = state.modules["net"](batch.tokens, batch.segments, batch.valid).float()
        inside = (batch.segments == 1) & batch.valid
        last = batch.valid.sum(1) - 1
        inside[torch.arange(len(last), device=last.device), last] = False
        return logits.masked_fill(~inside[:, :, None], -torch.inf)

    def _read(self, batch: Batch) -> list[Question]:
        """Return the questions with their contexts, which are cut to fit."""
        columns = self.reader.select(batch, self.inputs)
        questions = []
        contexts = self.reader.tokenizer.library.encode_batch(columns["context"], add_special_tokens=False)
        for tokens, context in zip(self.reader.tokenizer.encode_all(columns["question"]), contexts, strict=True):
            tokens = tokens[: self.reader.length // 2]
            room = self.reader.length - 3 - len(tokens)
            questions.append(Question([tokens, np.array(context.ids[:room], dtype=np.int32)], context.offsets[:room]))
        return questions

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return the questions and contexts of examples."""
        return {name: [self.reader.shorten(text, 0.5) for text in batch[name]] for name in self.inputs}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return SQuAD's F1 and exact match, 0 to 1."""
        pairs = list(zip(predictions["answer"].tolist(), targets["answer"], strict=True))
        return {
            "f1": float(np.mean([answer_f1(answer, truth) for answer, truth in pairs])),
            "exact_match": float(np.mean([exact_answer(answer, truth) for answer, truth in pairs])),
        }

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the F1 of each answer [N]."""
        pairs = zip(predictions["answer"].tolist(), targets["answer"], strict=True)
        return np.array([answer_f1(answer, truth) for answer, truth in pairs])

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """Return questions with the predicted answers, and the truth where it is another."""
        lines = []
        for row in np.linspace(0, len(targets["answer"]) - 1, min(SHOWN, len(targets["answer"]))).astype(int):
            answer, truth = str(predictions["answer"][row]), targets["answer"][row]
            verdict = "right" if exact_answer(answer, truth) else f"WRONG, it is {truth!r}"
            lines.append(f"{targets['question'][row]}\n    {answer!r}  {verdict}")
        return {"answers": "\n".join(lines)}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the body's weights come from."""
        return self.finetuning.describe()


def find_span(question: Question, start: int, end: int) -> tuple[int, int]:
    """Return the places in the row of the tokens that hold characters `start` to `end` of the context, or ABSENT."""
    inside = [number for number, (a, b) in enumerate(question.offsets) if a < end and b > start]
    if not inside or question.offsets[-1][1] < end:
        return ABSENT, ABSENT
    return question.first + inside[0], question.first + inside[-1]


def best_spans(logits: Tensor) -> list[Tensor]:
    """Return (first, last, probability), [B] each, of the most probable spans by logits [B, T, 2] of start and end."""
    start, end = logits.log_softmax(1).unbind(2)
    count = logits.shape[1]
    total = start[:, :, None] + end[:, None]
    allowed = torch.ones(count, count, dtype=torch.bool, device=logits.device).triu().tril(ANSWER_TOKENS - 1)
    best = total.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
    return [best.indices // count, best.indices % count, best.values.exp()]
