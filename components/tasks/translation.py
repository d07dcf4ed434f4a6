"""Translation of one sequence into another: trained by teacher forcing, decoded by beam search, scored by BLEU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..data.parallel import decode_text, decode_tokens, sentence_lengths
from ..decoding.beam import beam_search
from ..metrics.language import language_scores
from ..metrics.translation import SIGNATURE, bleu, exact_match
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, NonNegative
from ..storage.order import keyed_uniforms
from ..storage.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, split_vocabularies
from ..tokens.tokenizer import Tokenizer
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Number of translations in the sample.
SAMPLE_LINES = 10
# Sentences of similar length that a processor translates at once: their candidates stay in its cache.
GROUP = 64


class Sample(NamedTuple):
    """One row to show: token numbers, and whether the translation is correct."""

    source: list[int]
    truth: list[int]
    translation: list[int]
    correct: bool


class Translation(Task):
    """Translation of rows of `data.parallel.Parallel`; targets that were cut to its `length` are scored uncut.

    model: factory called with (sources, targets), the sizes of the two vocabularies; `models/seq2seq.py` describes its
    methods.
    label_smoothing: fraction of each target that is spread over all tokens (Szegedy et al. 2016).
    sampling: fraction of the decoder's inputs that are the model's own predictions instead of the truth. It rises from
    0 over the first `ramp` steps (scheduled sampling, Bengio et al. 2015).
    passes: "parallel" predicts all tokens from the truth in a first pass (Mihaylova & Martins 2019). "sequential" is
    the original: a prediction follows from the inputs sampled before it, so the decoder runs token by token.
    beam, penalty: of the beam search (`decoding/beam.py`); a beam of 1 is greedy.
    """

    monitor: ClassVar[tuple[str, str]] = ("bleu", "max")
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    targets: ClassVar[tuple[str, ...]] = ("source", "target")
    lengths: ClassVar[tuple[str, ...]] = ("target", "source")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        label_smoothing: Fraction = 0.0,
        sampling: Fraction = 0.0,
        ramp: Count = 1000,
        passes: Literal["parallel", "sequential"] = "parallel",
        beam: Count = 1,
        penalty: NonNegative = 0.75,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.label_smoothing = label_smoothing
        self.sampling = sampling
        self.ramp = ramp
        self.passes = passes
        self.beam = beam
        self.penalty = penalty
        # Of the source and of the target.
        self.vocabularies: tuple[list[str], list[str]] = ([], [])
        # Of the columns whose tokens are parts of words.
        self.tokenizers: dict[str, Tokenizer] = {}
        self.length = 0

    def setup(self, spec: Spec) -> State:
        """Build the network for the two vocabularies."""
        self.vocabularies = split_vocabularies(spec.classes)
        (self.length,) = (side for side in spec.columns["target"] if side is not None)
        tokenizers = {name: Tokenizer(content) for name, content in spec.tokenizers.items()}
        self.tokenizers = {name: tokenizer for name, tokenizer in tokenizers.items() if not tokenizer.kind}
        if "reference" in spec.columns:
            self.targets = (*type(self).targets, "reference")  # type: ignore[misc]
        net = self.model(sources=len(self.vocabularies[0]), targets=len(self.vocabularies[1]))
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def objective(self) -> str | None:
        """Return "loss", the cross-entropy, if the targets are not smoothed."""
        return None if self.label_smoothing else "loss"

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross-entropy in nats and accuracy: means over the target tokens without padding."""
        source, target = (drop_padding(shard.batch[name].long()) for name in ("source", "target"))
        logits = self._teach(state, shard, source, target).float().flatten(0, 1)
        labels = target.flatten()
        loss = F.cross_entropy(logits, labels, ignore_index=PAD, label_smoothing=self.label_smoothing, reduction="sum")
        is_token = labels != PAD
        shard.weight = is_token.sum()
        count = is_token.sum().clamp(min=1)
        correct = ((logits.detach().argmax(1) == labels) & is_token).sum()
        return loss / count, {"accuracy": correct / count}

    def _teach(self, state: State, shard: Shard, source: Tensor, target: Tensor) -> Tensor:
        """Return the logits [B, T, K] of `target` [B, T], each given the truth or own predictions before it."""
        net: Any = state.modules["net"]
        inputs = shift_right(target)
        share = self.sampling * min(1.0, state.step / self.ramp)
        if share == 0:
            return net(source, inputs)
        draws = keyed_uniforms(shard.batch["row"].cpu().numpy(), self.length, state.step, 16)[:, : target.shape[1]]
        sampled = torch.from_numpy(draws < share).to(target.device)
        if self.passes == "parallel":
            with torch.no_grad():
                predicted = net(source, inputs).argmax(2)
            return net(source, torch.where(sampled, shift_right(predicted), inputs))
        states, predicted, logits = net.start(source), inputs[:, :1], []
        for at in range(target.shape[1]):
            newest = torch.where(sampled[:, at : at + 1], predicted, inputs[:, at : at + 1])
            next_logits, states = net.decode(newest, states)
            predicted = next_logits.detach().argmax(2)
            logits.append(next_logits)
        return torch.cat(logits, dim=1)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"token": [B, T], "score": [B]}: the translation with <eos> and padding, and its beam-search score.

        If the batch contains the true translation, add "nll" [B, T]: the loss of each of its tokens given those before
        it, and 0 for padding. With a beam, add "greedy" [B, T] too: the translation by a beam of 1, to compare.
        """
        order = sentence_lengths(batch["source"]).argsort(stable=True)
        groups = order.split(GROUP if order.device.type == "cpu" else len(order))
        columns = [name for name in ("source", "target") if name in batch]
        parts = [self._predict_group(state, {name: batch[name][rows] for name in columns}) for rows in groups]
        places = order.argsort()
        return {name: torch.cat([part[name] for part in parts])[places] for name in parts[0]}

    def _predict_group(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return what `predict` returns, for sources of similar length."""
        net: Any = state.modules["net"]
        source = drop_padding(batch["source"].long())
        search = partial(beam_search, net.decode, begin=BOS, end=EOS, pad=PAD, length=self.length, penalty=self.penalty)
        token, score = search(net.start(source), beam=self.beam)
        predictions = {"token": token.int(), "score": score}
        if "target" in batch:
            if self.beam > 1:
                predictions["greedy"] = search(net.start(source), beam=1)[0].int()
            target = drop_padding(batch["target"].long())
            logits = net(source, shift_right(target)).float().transpose(1, 2)
            nll = F.cross_entropy(logits, target, ignore_index=PAD, reduction="none")
            predictions["nll"] = F.pad(nll, (0, self.length - nll.shape[1]))
        return predictions

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return bleu and exact_match (0 to 1) of the translations; perplexity, loss and bits per true token.

        With a beam, return greedy_bleu too, of the translations by a beam of 1.
        """
        translations, truths = self._sentences(predictions["token"], targets)
        metrics = {"bleu": bleu(translations, truths), "exact_match": exact_match(translations, truths)}
        if "greedy" in predictions:
            metrics["greedy_bleu"] = bleu(self._sentences(predictions["greedy"], targets)[0], truths)
        return metrics | language_scores(predictions["nll"][targets["target"] != PAD])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Sample translations, half of them wrong if there are enough; draw the attention, if any, for the longest."""
        translations, truths = self._sentences(predictions["token"], targets)
        correct = np.array([translation == truth for translation, truth in zip(translations, truths, strict=True)])
        wrong_rows, correct_rows = np.flatnonzero(~correct), np.flatnonzero(correct)
        correct_rows = correct_rows[: max(SAMPLE_LINES // 2, SAMPLE_LINES - len(wrong_rows))]
        wrong_rows = wrong_rows[: SAMPLE_LINES - len(correct_rows)]
        rows = np.concatenate([wrong_rows, correct_rows])
        samples = [
            Sample(
                targets["source"][row].tolist(),
                targets["target"][row].tolist(),
                predictions["token"][row].tolist(),
                bool(correct[row]),
            )
            for row in rows
        ]
        drawn: dict[str, Figure | str] = {"translations": "\n".join(map(self._format_sample, samples))}
        longest = max(samples, key=lambda sample: np.count_nonzero(sample.translation))
        weights = self.attention_weights(state, longest.source, longest.translation)
        if weights is not None:
            from ..drawings.attention import draw_token_attention

            source = [self._token_text(token, "source") for token in longest.source if token != PAD]
            translation = [self._token_text(token, "target") for token in longest.translation if token != PAD]
            drawn["attention"] = draw_token_attention(weights, source, translation, "Where it looks")
        return drawn

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return the signature of the BLEU score, as sacrebleu writes it."""
        return {"bleu.signature": SIGNATURE}

    def _format_sample(self, sample: Sample) -> str:
        """Return the source and the translation as lines of text and, if the translation is wrong, the truth."""
        lines = [
            f"{'right' if sample.correct else 'WRONG'}  {self._text(sample.source, 'source')}",
            f"       {self._text(sample.translation, 'target')}",
        ]
        if not sample.correct:
            lines.append(f"       {self._text(sample.truth, 'target')}  (the truth)")
        return "".join(f"{line}\n" for line in lines)

    def _text(self, row: Iterable[int], side: Literal["source", "target"]) -> str:
        """Return the text of a row of token numbers."""
        vocabulary = self.vocabularies[side == "target"]
        if side not in self.tokenizers:
            return decode_text(row, vocabulary)
        numbers = self.tokenizers[side].numbers
        return self.tokenizers[side].decode(numbers[token] for token in decode_tokens(row, vocabulary)).strip()

    def _token_text(self, token: int, side: Literal["source", "target"]) -> str:
        """Return one token as a label: a mark, a word, or a part of a word without the sign for the space before it."""
        if side in self.tokenizers and token >= len(SPECIAL):
            return self._text([token], side)
        return self.vocabularies[side == "target"][token]

    def words(self, row: Iterable[int]) -> list[str]:
        """Return the tokens of a target that scores count: its words or characters; parts of words are joined."""
        if "target" in self.tokenizers:
            return self._text(row, "target").split()
        return decode_tokens(row, self.vocabularies[1])

    @torch.no_grad()
    def attention_weights(self, state: State, source: list[int], translation: list[int]) -> np.ndarray | None:
        """Return the attention [T, S] of translated to source tokens without padding; None if the model has none."""
        net: Any = state.modules["net"]
        device = next(net.parameters()).device
        source_tokens = torch.tensor([[token for token in source if token != PAD]], device=device)
        translated_tokens = torch.tensor([[token for token in translation if token != PAD]], device=device)
        states = net.decode(shift_right(translated_tokens), net.start(source_tokens))[1]
        return states["attention"][0].float().cpu().numpy() if "attention" in states else None

    def _sentences(self, tokens: np.ndarray, targets: dict[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
        """Return the tokens of the translations and of the truths, uncut."""
        return self.sentences(tokens, targets["reference"] if "reference" in targets else targets["target"])

    def sentences(
        self, tokens: np.ndarray | Tensor, truth: np.ndarray | Tensor
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Return the words of translations `tokens` [B, T] and of their truths [B, T'].

        An unknown token in a translation becomes "", so that it never matches the truth.
        """
        truths = [self.words(row) for row in truth.tolist()]
        translations = [self.words(row) for row in tokens.tolist()]
        translations = [["" if word == SPECIAL[UNK] else word for word in words] for words in translations]
        return translations, truths


def shift_right(target: Tensor) -> Tensor:
    """Return the decoder's inputs for `target` [B, T]: <bos>, followed by all but its last token."""
    return torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)


def drop_padding(rows: Tensor) -> Tensor:
    """Return the columns of token rows [B, T] up to the longest sentence; at least one."""
    return rows[:, : max(1, int(sentence_lengths(rows).max()))]
