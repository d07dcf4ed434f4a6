"""N-gram language models: counts instead of gradients, smoothed by shorter contexts (notes: language models).

A step adds the n-grams of its windows to tables of counts. Its loss uses the counts from before the step, so every text
is predicted before it is learned. Tables are sparse: an n-gram is encoded as one number whose digits, in the base of
the vocabulary's size, are its tokens; the newest token is the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..data.text import continues_previous
from ..errors import Refusal
from ..metrics.language import language_scores
from ..recipes.ranges import Count, Natural, Positive
from ..tokens.vocabulary import open_tokenizer
from ..training.task import Batch, Shard, Spec, State, Task, Update

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stands for a position before the start of the text.
ABSENT = -1
NAMES = ("unigrams", "bigrams", "trigrams")


class NGram(Task):
    """Prediction of a token from the n - 1 tokens before it, where p_k is smoothed by the shorter context's p_(k-1):

        p_k(x | c) = (n(c, x) + smoothing * p_(k-1)(x | c')) / (n(c) + smoothing),    p_0 = 1 / vocabulary

    With `fit.order: sequential`, n-grams that cross windows are counted as well; with `fit.epochs: 1`, each is counted
    once. prefix, sample: the sampled text is `prefix` followed by `sample` tokens.
    """

    monitor: ClassVar[tuple[str, str]] = ("perplexity", "min")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ()
    sequential: ClassVar[bool] = True

    def __init__(self, n: Count = 5, smoothing: Positive = 1.0, prefix: str = "the ", sample: Natural = 400) -> None:
        self.n = n
        self.smoothing = smoothing
        self.prefix = prefix
        self.sample = sample
        # Number of tokens before a window that belong to the context of its first target.
        self.history = max(0, n - 2)
        self.classes: list[str] = []
        self.tokenizers: dict[str, str] = {}

    def setup(self, spec: Spec) -> State:
        """Create empty tables of counts; Refusal if n-grams do not fit into 64 bits."""
        self.classes = list(spec.classes)
        self.tokenizers = spec.tokenizers
        size = len(self.classes)
        if size**self.n >= 2**63:
            raise Refusal(
                f"task.n: {self.n}-grams of {size} tokens do not fit into 64 bits; lower n or raise min_count"
            )
        return State(tables={f"{k}-grams": np.zeros((2, 0), dtype=np.int64) for k in range(1, self.n + 1)})

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Measure the loss under the counts so far, then count the batch."""
        (loss,) = update.mean(self._mean_nll)
        update.tally(self._count_ngrams, merge_counts)
        return {"loss": loss}

    def _mean_nll(self, state: State, shard: Shard) -> list[Tensor]:
        """Return a shard's mean loss [] under the counts so far, and carry its last tokens to the next step."""
        rows, tokens = (shard.batch[name].cpu().numpy() for name in ("row", "token"))
        history = np.full((len(rows), self.history), ABSENT, dtype=tokens.dtype)
        if "row" in shard.carry:
            continues = shard.carry["row"].cpu().numpy() + 1 == rows
            history[continues] = shard.carry["newest"].cpu().numpy()[continues]
        text = np.concatenate([history, tokens], axis=1)
        newest = text[:, text.shape[1] - 1 - self.history : -1]
        device = shard.batch["token"].device
        arrays = {"row": rows, "history": history, "newest": np.ascontiguousarray(newest)}
        shard.carry.update({name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
        return [torch.tensor(self.nll(state, text).mean(), dtype=torch.float32, device=device)]

    def _count_ngrams(self, state: State, shard: Shard) -> dict[str, np.ndarray]:
        """Return tables of the n-grams that end at a shard's targets."""
        text = np.concatenate([shard.carry["history"].cpu().numpy(), shard.batch["token"].cpu().numpy()], axis=1)
        return {
            f"{k}-grams": np.stack(np.unique(grams[complete], return_counts=True))
            for k, (grams, complete) in enumerate(self._encode_ngrams(text), 1)
        }

    def _encode_ngrams(self, text: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, for k = 1 ... n, the k-gram that ends at each target and whether it lies in the text entirely.

        text: tokens [B, history + steps + 1]; both results have shape [B, steps].
        """
        first = self.history + 1
        wide = text.astype(np.int64)
        last = wide.shape[1]
        gram = np.zeros((len(wide), last - first), dtype=np.int64)
        complete = np.array(True)
        ngrams = []
        for back in range(self.n):
            digit = wide[:, first - back : last - back]
            gram = gram + digit * len(self.classes) ** back
            complete = complete & (digit != ABSENT)
            ngrams.append((gram, complete))
        return ngrams

    def nll(self, state: State, text: np.ndarray) -> np.ndarray:
        """Return -log p of each target, float64 [B, steps], for tokens [B, history + steps + 1]."""
        size = len(self.classes)
        p = np.full((len(text), text.shape[1] - self.history - 1), 1 / size)
        for k, (grams, complete) in enumerate(self._encode_ngrams(text), 1):
            keys, counts = state.tables[f"{k}-grams"]
            cumulative = np.concatenate([[0], np.cumsum(counts)])
            # The n-grams with the same context are neighbours in the table, so two sums give the context's count.
            first = grams // size * size
            context_count = cumulative[np.searchsorted(keys, first + size)] - cumulative[np.searchsorted(keys, first)]
            at = np.searchsorted(keys, grams)
            count = cumulative[np.minimum(at + 1, len(keys))] - cumulative[at]
            count = np.where(np.append(keys, -1)[at] == grams, count, 0)
            p = np.where(complete, (count + self.smoothing * p) / (context_count + self.smoothing), p)
        return -np.log(p)

    def distribution(self, state: State, contexts: np.ndarray) -> np.ndarray:
        """Return p of every token, float64 [B, vocabulary], after contexts int [B, n - 1] (ABSENT before the text)."""
        size = len(self.classes)
        rows = np.arange(len(contexts))
        p = np.full((len(contexts), size), 1 / size)
        context = np.zeros(len(contexts), dtype=np.int64)
        complete = np.ones(len(contexts), dtype=bool)
        for k in range(1, self.n + 1):
            if k > 1:
                digit = contexts[:, self.n - k].astype(np.int64)
                context = context + digit * size ** (k - 2)
                complete = complete & (digit != ABSENT)
            keys, counts = state.tables[f"{k}-grams"]
            # Entries start ... stop of the table are the n-grams with this context.
            start = np.where(complete, np.searchsorted(keys, context * size), 0)
            stop = np.where(complete, np.searchsorted(keys, (context + 1) * size), 0)
            lengths = stop - start
            owner = np.repeat(rows, lengths)
            at = np.arange(lengths.sum()) + np.repeat(start - np.cumsum(lengths) + lengths, lengths)
            total = np.bincount(owner, counts[at], len(rows))[:, None]
            p *= self.smoothing / (total + self.smoothing)
            p[owner, keys[at] % size] += counts[at] / (total[owner, 0] + self.smoothing)
        return p

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"nll": [B, steps] float32, "token": [B]}: the latter is the most probable token after the window.

        Windows with consecutive row numbers form one text. Without row numbers, each window is a text of its own.
        """
        tokens = batch["token"].cpu().numpy()
        text = np.concatenate([self.preceding_tokens(tokens, batch.get("row")), tokens], axis=1)
        following = self.distribution(state, text[:, text.shape[1] - self.n + 1 :])
        predictions = {"nll": self.nll(state, text).astype(np.float32), "token": following.argmax(1)}
        return {name: torch.from_numpy(values).to(batch["token"].device) for name, values in predictions.items()}

    def preceding_tokens(self, tokens: np.ndarray, rows: Tensor | None) -> np.ndarray:
        """Return the tokens before each window in its text: [B, history], ABSENT before the text."""
        count = len(tokens)
        steps = tokens.shape[1] - 1
        continues = np.zeros(count, dtype=bool) if rows is None else continues_previous(rows.cpu().numpy())
        text_starts = np.maximum.accumulate(np.where(continues, 0, np.arange(count)))[:, None] * steps
        positions = np.arange(count)[:, None] * steps + np.arange(-self.history, 0)
        text = tokens[:, :-1].reshape(-1)
        return np.where(positions >= text_starts, text[np.maximum(positions, 0)], ABSENT)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return perplexity, loss and bits per token."""
        return language_scores(predictions["nll"])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the frequency of the n-grams against their rank, and sample a text."""
        from ..drawings.zipf import draw_zipf

        counts = {name: state.tables[f"{k}-grams"][1] for k, name in enumerate(NAMES[: self.n], 1)}
        return {"zipf": draw_zipf(counts, "Frequency against rank"), "sample": self._sample_text(state)}

    def _sample_text(self, state: State) -> str:
        random = np.random.default_rng(0)
        tokenizer = open_tokenizer(self.tokenizers, "token", self.classes)
        numbers = [ABSENT] * (self.n - 1) + tokenizer.encode(self.prefix).tolist()
        for _ in range(self.sample):
            context = np.array(numbers[len(numbers) - self.n + 1 :])[None]
            numbers.append(int(random.choice(len(self.classes), p=self.distribution(state, context)[0])))
        return tokenizer.decode(numbers[self.n - 1 :])


def merge_counts(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the sum of two tables int64 [2, M], whose rows are ascending keys and their counts."""
    at = np.searchsorted(old[0], new[0])
    exists = np.append(old[0], ABSENT)[at] == new[0]
    total = old.copy()
    total[1, at[exists]] += new[1, exists]
    return np.insert(total, at[~exists], new[:, ~exists], axis=1)
