"""The n-gram model: counts instead of gradients, smoothed by the shorter context (notes: language models).

A step counts the n-grams of its windows into tables; its loss is that of the counts before the step, so every text is
predicted before it is learned. Tables are sparse: an n-gram is one number, its tokens the digits to the base of the
vocabulary's size, the newest last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..data.text import continues_previous, decode_text, encode_tokens, token_kind, tokenize
from ..errors import Refusal
from ..metrics.language import language_scores
from ..recipes.ranges import Count, Natural, Positive
from ..training.task import Batch, Shard, Spec, State, Task, Update

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABSENT = -1  # before the text begins
NAMES = ("unigrams", "bigrams", "trigrams")


class NGram(Task):
    """Predicts a token from the n - 1 before it, p_k from the shorter context's p_(k-1):

        p_k(x | c) = (n(c, x) + smoothing * p_(k-1)(x | c')) / (n(c) + smoothing),    p_0 = 1 / vocabulary

    With `fit.order: sequential` n-grams that cross windows are counted, too; `fit.epochs: 1` counts each once.
    prefix, sample: the sampled text begins with the one and has so many tokens more.
    """

    monitor: ClassVar[tuple[str, str]] = ("perplexity", "min")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n: Count = 5, smoothing: Positive = 1.0, prefix: str = "the ", sample: Natural = 400) -> None:
        self.n, self.smoothing, self.prefix, self.sample = n, smoothing, prefix, sample
        self.history = max(0, n - 2)  # tokens before a window that its first target still sees
        self.classes: list[str] = []

    def setup(self, spec: Spec) -> State:
        self.classes = list(spec.classes)
        if (size := len(self.classes)) ** self.n >= 2**63:
            raise Refusal(f"task.n: {self.n}-grams of {size} tokens have no 64-bit number; lower n or raise min_count")
        return State(tables={f"{k}-grams": np.zeros((2, 0), dtype=np.int64) for k in range(1, self.n + 1)})

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        (loss,) = update.mean(self.before)
        update.tally(self.counted, merged)
        return {"loss": loss}

    def before(self, state: State, shard: Shard) -> list[Tensor]:
        """Mean loss [] of a shard's windows under the counts so far; carries their last tokens to the next step."""
        rows, tokens = (shard.batch[name].cpu().numpy() for name in ("row", "token"))
        history = np.full((len(rows), self.history), ABSENT, dtype=tokens.dtype)
        if "row" in shard.carry:
            goes_on = shard.carry["row"].cpu().numpy() + 1 == rows
            history[goes_on] = shard.carry["newest"].cpu().numpy()[goes_on]
        known = np.concatenate([history, tokens], axis=1)
        newest = known[:, known.shape[1] - 1 - self.history : -1]
        device = shard.batch["token"].device
        arrays = {"row": rows, "history": history, "newest": np.ascontiguousarray(newest)}
        shard.carry.update({name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
        return [torch.tensor(self.nll(state, known).mean(), dtype=torch.float32, device=device)]

    def counted(self, state: State, shard: Shard) -> dict[str, np.ndarray]:
        """Tables of the n-grams that end at a shard's targets."""
        known = np.concatenate([shard.carry["history"].cpu().numpy(), shard.batch["token"].cpu().numpy()], axis=1)
        return {
            f"{k}-grams": np.stack(np.unique(grams[whole], return_counts=True))
            for k, (grams, whole) in enumerate(self.grams(known), 1)
        }

    def grams(self, known: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """known [B, history + steps + 1] -> for k = 1 ... n (k-gram ending at each target, whether it is whole)."""
        first, wide = self.history + 1, known.astype(np.int64)
        last = wide.shape[1]
        gram, whole = np.zeros((len(wide), last - first), dtype=np.int64), np.array(True)
        found = []
        for back in range(self.n):
            digit = wide[:, first - back : last - back]
            gram, whole = gram + digit * len(self.classes) ** back, whole & (digit != ABSENT)
            found.append((gram, whole))
        return found

    def nll(self, state: State, known: np.ndarray) -> np.ndarray:
        """-log p of each target: known [B, history + steps + 1] -> float64 [B, steps]."""
        size = len(self.classes)
        p = np.full((len(known), known.shape[1] - self.history - 1), 1 / size)
        for k, (grams, whole) in enumerate(self.grams(known), 1):
            keys, counts = state.tables[f"{k}-grams"]
            sums = np.concatenate([[0], np.cumsum(counts)])
            first = grams // size * size  # the context's n-grams are neighbours in the table
            total = sums[np.searchsorted(keys, first + size)] - sums[np.searchsorted(keys, first)]
            at = np.searchsorted(keys, grams)
            own = sums[np.minimum(at + 1, len(keys))] - sums[at]
            own = np.where(np.append(keys, -1)[at] == grams, own, 0)
            p = np.where(whole, (own + self.smoothing * p) / (total + self.smoothing), p)
        return -np.log(p)

    def distribution(self, state: State, contexts: np.ndarray) -> np.ndarray:
        """p of every token after contexts int [B, n - 1] (ABSENT where there is nothing): float64 [B, vocabulary]."""
        size, rows = len(self.classes), np.arange(len(contexts))
        p = np.full((len(contexts), size), 1 / size)
        context, whole = np.zeros(len(contexts), dtype=np.int64), np.ones(len(contexts), dtype=bool)
        for k in range(1, self.n + 1):
            if k > 1:
                digit = contexts[:, self.n - k].astype(np.int64)
                context, whole = context + digit * size ** (k - 2), whole & (digit != ABSENT)
            keys, counts = state.tables[f"{k}-grams"]
            start, stop = (np.where(whole, np.searchsorted(keys, c * size), 0) for c in (context, context + 1))
            lengths = stop - start
            owner = np.repeat(rows, lengths)
            at = np.arange(lengths.sum()) + np.repeat(start - np.cumsum(lengths) + lengths, lengths)
            total = np.bincount(owner, counts[at], len(rows))[:, None]
            p *= self.smoothing / (total + self.smoothing)
            p[owner, keys[at] % size] += counts[at] / (total[owner, 0] + self.smoothing)
        return p

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"nll": [B, steps] float32, "token": [B], the most probable one after the window}.

        Windows whose rows follow each other are one text; without their rows' numbers each stands alone.
        """
        tokens = batch["token"].cpu().numpy()
        known = np.concatenate([self.earlier(tokens, batch.get("row")), tokens], axis=1)
        after = self.distribution(state, known[:, known.shape[1] - self.n + 1 :])
        found = {"nll": self.nll(state, known).astype(np.float32), "token": after.argmax(1)}
        return {name: torch.from_numpy(values).to(batch["token"].device) for name, values in found.items()}

    def earlier(self, tokens: np.ndarray, rows: Tensor | None) -> np.ndarray:
        """The tokens before each window [B, history]."""
        count, steps = len(tokens), tokens.shape[1] - 1
        goes_on = continues_previous(rows.cpu().numpy()) if rows is not None else np.zeros(count, dtype=bool)
        begins = np.maximum.accumulate(np.where(goes_on, 0, np.arange(count)))[:, None] * steps
        places = np.arange(count)[:, None] * steps + np.arange(-self.history, 0)
        text = tokens[:, :-1].reshape(-1)
        return np.where(places >= begins, text[np.maximum(places, 0)], ABSENT)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return language_scores(predictions["nll"])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Frequency against rank of what was counted, and a text sampled from it."""
        from ..drawings.zipf import draw_zipf

        counts = {name: state.tables[f"{k}-grams"][1] for k, name in enumerate(NAMES[: self.n], 1)}
        return {"zipf": draw_zipf(counts, "Frequency against rank"), "sample": self.sampled(state)}

    def sampled(self, state: State) -> str:
        random = np.random.default_rng(0)
        numbers = [ABSENT] * (self.n - 1) + encode_tokens(
            tokenize(self.prefix, token_kind(self.classes)), self.classes
        ).tolist()
        for _ in range(self.sample):
            context = np.array(numbers[len(numbers) - self.n + 1 :])[None]
            numbers.append(int(random.choice(len(self.classes), p=self.distribution(state, context)[0])))
        return decode_text(numbers[self.n - 1 :], self.classes)


def merged(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The sum of two tables int64 [2, M]: keys ascending, and how often each occurs."""
    at = np.searchsorted(old[0], new[0])
    known = np.append(old[0], ABSENT)[at] == new[0]
    sums = old.copy()
    sums[1, at[known]] += new[1, known]
    return np.insert(sums, at[~known], new[:, ~known], axis=1)
