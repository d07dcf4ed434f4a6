"""Translation: one sequence from another, by teacher forcing; said by beam search, judged by BLEU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.parallel import BOS, EOS, PAD, UNK, decode_text, decode_tokens, split_vocabularies
from ..decoding.beam import beam_search
from ..metrics.language import language_scores
from ..metrics.translation import bleu, exact_match
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 10  # translations worth a line


class Translation(Task):
    """Of rows of `data.parallel.Parallel`.

    model: factory called with (sources, targets), the sizes of the two vocabularies; its methods: `models/seq2seq.py`.
    label_smoothing: this share of each target is spread over all tokens (Szegedy et al. 2016). sampling: the share of
    the decoder's input that is what the model itself says there, not the truth; it rises from 0 over the first `ramp`
    steps (scheduled sampling, Bengio et al. 2015; in two passes, which Mihaylova & Martins 2019 found as good and which
    keep a step parallel). beam, penalty: of the search, `decoding/beam.py`; a beam of 1 is greedy.
    """

    monitor: ClassVar[tuple[str, str]] = ("bleu", "max")
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    targets: ClassVar[tuple[str, ...]] = ("source", "target")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = adam,
        label_smoothing: Fraction = 0.0,
        sampling: Fraction = 0.0,
        ramp: Count = 1000,
        beam: Count = 1,
        penalty: NonNegative = 0.75,
    ) -> None:
        self.model, self.optimizer, self.label_smoothing = model, optimizer, label_smoothing
        self.sampling, self.ramp = sampling, ramp
        self.beam, self.penalty = beam, penalty
        self.vocabularies: tuple[list[str], list[str]] = ([], [])
        self.length = 0

    def setup(self, spec: Spec) -> State:
        self.vocabularies = split_vocabularies(spec.classes)
        (self.length,) = (side for side in spec.columns["target"] if side is not None)
        net = self.model(sources=len(self.vocabularies[0]), targets=len(self.vocabularies[1]))
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats, accuracy, after the truth or a mix of it; means over the target, padding left out."""
        source, target = shard.batch["source"].long(), shard.batch["target"].long()
        net, given = state.modules["net"], shifted(target)
        share = self.sampling * min(1.0, state.step / self.ramp)
        if share > 0:
            with torch.no_grad():
                own = net(source, given).argmax(2)
            sampled = torch.rand(given.shape, generator=shard.generator, device=given.device) < share
            given = torch.where(sampled, shifted(own), given)
        logits = net(source, given).float().flatten(0, 1)
        wanted = target.flatten()
        loss = F.cross_entropy(logits, wanted, ignore_index=PAD, label_smoothing=self.label_smoothing)
        right = (logits.detach().argmax(1) == wanted)[wanted != PAD].float().mean()
        return loss, {"accuracy": right}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"token": [B, T], what is said, with <eos>, then padding; "score": [B], as the search scores it}.

        Where the batch has the truth also {"nll": [B, T]}, of each of its tokens after those before it, 0 for padding.
        """
        net: Any = state.modules["net"]
        source = batch["source"].long()
        token, score = beam_search(
            net.decode,
            net.start(source),
            begin=BOS,
            end=EOS,
            pad=PAD,
            length=self.length,
            beam=self.beam,
            penalty=self.penalty,
        )
        found = {"token": token.int(), "score": score}
        if "target" in batch:
            target = batch["target"].long()
            logits = net(source, shifted(target)).float().transpose(1, 2)
            found["nll"] = F.cross_entropy(logits, target, ignore_index=PAD, reduction="none")
        return found

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """bleu and exact_match (0 to 1) of what is said; perplexity, loss, bits of a token of the truth."""
        said, truth = self.sentences(predictions, targets)
        found = {"bleu": bleu(said, truth), "exact_match": exact_match(said, truth)}
        return found | language_scores(predictions["nll"][targets["target"] != PAD])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Translations, up to half of them wrong ones; with attention, where it looked for the longest of them."""
        right = [a == b for a, b in zip(*self.sentences(predictions, targets), strict=True)]
        wrong, rest = np.flatnonzero(~np.array(right))[: SHOWN // 2], np.flatnonzero(right)
        rows = np.concatenate([wrong, rest[: SHOWN - len(wrong)]])
        columns = (targets["source"], targets["target"], predictions["token"])
        shown = [[columns[n][row].tolist() for n in range(3)] for row in rows]
        lines = [self.line(row, right[number]) for row, number in zip(shown, rows, strict=True)]
        drawn: dict[str, Figure | str] = {"translations": "\n".join(lines)}
        source, _, said = max(shown, key=lambda row: np.count_nonzero(row[2]))
        weights = self.weights(state, source, said)
        if weights is not None:
            from ..drawings.attention import draw_token_attention

            read, written = (
                [known[number] for number in row if number != PAD]
                for row, known in zip((source, said), self.vocabularies, strict=True)
            )
            drawn["attention"] = draw_token_attention(weights, read, written, "Where it looks")
        return drawn

    def line(self, row: list[list[int]], right: bool) -> str:
        """A translation to read; row: source, truth, what was said."""
        (source, truth, said), known = row, self.vocabularies
        told = (
            f"{'right' if right else 'WRONG'}  {decode_text(source, known[0])}\n       {decode_text(said, known[1])}\n"
        )
        return told if right else f"{told}       {decode_text(truth, known[1])}  (the truth)\n"

    @torch.no_grad()
    def weights(self, state: State, source: list[int], said: list[int]) -> np.ndarray | None:
        """How much each token said looked at each of the source [T, S], padding left out; None without attention."""
        net: Any = state.modules["net"]
        device = next(net.parameters()).device
        given, tokens = (torch.tensor([[n for n in row if n != PAD]], device=device) for row in (source, said))
        states = net.decode(shifted(tokens), net.start(given))[1]
        return states["attention"][0].float().cpu().numpy() if "attention" in states else None

    def sentences(
        self, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The tokens said, those of the truth; an unknown one that is said is never right, whatever stands there."""
        known = self.vocabularies[1]
        never = [*known[:UNK], "", *known[UNK + 1 :]]
        said = [decode_tokens(row, never) for row in predictions["token"].tolist()]
        return said, [decode_tokens(row, known) for row in targets["target"].tolist()]


def shifted(target: Tensor) -> Tensor:
    """What the decoder is given to say `target` [B, T]: <bos>, then all but its last token."""
    return torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)
