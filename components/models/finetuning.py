"""Share what all fine-tuning of BERT needs: where weights come from, how fast layers learn, how texts are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..tokens.tokenizer import Tokenizer
from .bert import BERT, FinetuningNet, Pooling
from .bert_folder import read_bert

COLUMN = "text"  # under which the tokenizer travels with the model
BUCKET = 32  # rows of similar length that are predicted together
MIN_LENGTH = 8  # tokens of an example: three marks, and some of both texts


@dataclass(frozen=True)
class Body:
    """A BERT to fine-tune, its tokenizer, and the recipe's section that builds it again."""

    net: BERT
    tokenizer: Tokenizer
    section: dict[str, Any]  # {} where the recipe has one


def open_body(
    start: str | None, random: bool, model: Callable[..., nn.Module] | None, tokenizers: dict[str, str]
) -> Body:
    """Return the BERT in the folder `start`, or a new one of the sizes of `model`; refuses one of other sizes.

    random: take sizes and tokenizer from `start`, but no weights. tokenizers: of the data, or of an exported model.
    """
    if start is None:
        if model is None or COLUMN not in tokenizers:
            raise Refusal(
                "task.start: is missing; name a folder with a BERT, or give data.tokens and task.model for a new one"
            )
        tokenizer = Tokenizer(tokenizers[COLUMN])
        return Body(_check_body(model(vocabulary=len(tokenizer))), tokenizer, {})
    saved = read_bert(start, "task.start")
    vocabulary = len(saved.tokenizer)
    section = {} if model else {"use": "models.bert.BERT", **saved.sizes}
    net = BERT(vocabulary, **saved.sizes) if model is None else _check_body(model(vocabulary=vocabulary))
    tensors = saved.body | {"token.weight": saved.body["token.weight"][:vocabulary]}
    different = [name for name, tensor in net.state_dict().items() if _shape(tensors.get(name)) != tensor.shape]
    if different or len(net.state_dict()) != len(tensors):
        name = (different or sorted(tensors.keys() - net.state_dict().keys()))[0]
        raise Refusal(f"task.start: {start} holds a BERT of other sizes ({name} differs); leave out task.model")
    if not random:
        net.load_state_dict(tensors)
    return Body(net, saved.tokenizer, section)


@dataclass(frozen=True)
class Finetuning:
    """The arguments that all tasks of fine-tuning have; `tasks/sentences.py` describes them."""

    model: Callable[..., nn.Module] | None
    optimizer: Callable[..., Any]
    start: str | None
    random: bool
    length: int
    body_rate: float
    layer_decay: float
    frozen: int
    dropout: float
    pooling: Pooling | None = None  # see `FinetuningNet`

    def build(self, tokenizers: dict[str, str], outputs: int) -> Finetuned:
        """Return the network with `outputs` outputs, and what belongs to it."""
        body = open_body(self.start, self.random, self.model, tokenizers)
        net = FinetuningNet(body.net, outputs, self.pooling, self.dropout)
        return Finetuned(
            net=net,
            optimizer=rate_groups(net, self.optimizer, self.body_rate, self.layer_decay, self.frozen),
            reader=TextReader(body.tokenizer, self.length, body.net.positions),
            arguments={"model": body.section} if body.section else {},
        )

    def describe(self) -> dict[str, str]:
        """Return where the weights come from, as a tag of the run."""
        if self.start is None:
            return {}
        kind = "sizes and tokenizer of" if self.random else "all but the head from"
        return {"start": f"{kind} {self.start}"}


@dataclass(frozen=True)
class Finetuned:
    """A network to fine-tune, and what belongs to it."""

    net: FinetuningNet
    optimizer: Any
    reader: TextReader
    arguments: dict[str, Any]  # of the task, read from the checkpoint


def _check_body(net: nn.Module) -> BERT:
    if not isinstance(net, BERT):
        raise Refusal(f"task.model: {type(net).__name__} is not a BERT; use models.bert.BERT")
    return net


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def rate_groups(
    net: FinetuningNet, optimizer: Callable[..., Any], body_rate: float, layer_decay: float, frozen: int
) -> Any:
    """Return an optimiser with a learning rate per layer, and no weight decay on biases and norms.

    The head has the full rate, the pooler and the last layer `body_rate` times that, and each layer below it
    `layer_decay` times the rate of the layer above; the embeddings are the lowest. Layers below number `frozen`, with
    the embeddings, are not trained; `body_rate` 0 freezes the entire body.
    """
    count = len(net.body.layers)
    if frozen > count:
        raise Refusal(f"task.frozen: {frozen} is more than the {count} layers of the network; lower it")
    levels: dict[int, list[nn.Parameter]] = {}
    for name, parameter in net.body.named_parameters():
        first, _, rest = name.partition(".")
        level = int(rest.partition(".")[0]) + 1 if first == "layers" else (count if first == "pooler" else 0)
        levels.setdefault(level, []).append(parameter)
        is_used = net.pooling == "first" or first != "pooler"
        parameter.requires_grad_(body_rate > 0 and (frozen == 0 or level > frozen) and is_used)
    rated = [(1.0, list(net.head.parameters()))]
    rated += [(body_rate * layer_decay ** (count - level), part) for level, part in sorted(levels.items())]
    groups, rates = [], []
    for rate, parameters in rated:
        for decays in (True, False):
            part = [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays]
            if part:
                groups.append({"params": part} if decays else {"params": part, "weight_decay": 0.0})
                rates.append(rate)
    built = optimizer(groups)
    for group, rate in zip(built.param_groups, rates, strict=True):
        group["lr"] *= rate
    return built


# ------------------------------------------------------------------------------------------------ texts


@dataclass(frozen=True)
class TextBatch:
    """Texts as tokens with marks around them: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]."""

    tokens: Tensor  # int64 [B, T]
    segments: Tensor  # int64 [B, T]
    valid: Tensor  # bool [B, T]


class TextReader:
    """Turn texts into batches of at most `length` tokens; longer texts are cut at their end."""

    def __init__(self, tokenizer: Tokenizer, length: int, positions: int) -> None:
        if length > positions:
            raise Refusal(f"task.length: {length} is more than the {positions} positions of the network; lower it")
        if length < MIN_LENGTH:
            raise Refusal(f"task.length: {length} leaves no room for texts between their marks; set it to {MIN_LENGTH}")
        self.tokenizer = tokenizer
        self.length = length
        self.cls, self.sep, self.unknown, self.pad = (
            tokenizer.number(mark) for mark in ("[CLS]", "[SEP]", "[UNK]", "[PAD]")
        )

    @property
    def tokenizers(self) -> dict[str, str]:
        """Return the tokenizer as it travels with the model."""
        return {COLUMN: self.tokenizer.json}

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[list[np.ndarray]]:
        """Return for each row the tokens of the text and, with `pairs`, of the other text, cut to fit."""
        rows = [[part] for part in self.tokenizer.encode_all(texts)]
        if pairs is not None:
            for row, part in zip(rows, self.tokenizer.encode_all(pairs), strict=True):
                row.append(part)
        return [self._cut(row) for row in rows]

    def read(self, batch: Mapping[str, Any], names: Sequence[str]) -> list[list[np.ndarray]]:
        """Return the rows of one or two columns of texts, which `select` checks."""
        return self.encode(*self.select(batch, names).values())

    def select(self, batch: Mapping[str, Any], names: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return these columns of texts; refuse a batch that lacks one.

        A batch without the column "row" is a request: texts that cannot be read entirely are refused.
        """
        missing = [name for name in names if name not in batch]
        if missing:
            raise Refusal(f"input: has no '{missing[0]}'; send the columns {', '.join(names)}")
        columns: dict[str, Sequence[str]] = {name: list(batch[name]) for name in names}
        if "row" not in batch:
            self._check(columns)
        return columns

    def _check(self, columns: dict[str, Sequence[str]]) -> None:
        """Refuse texts that are empty, too long together, or without any token that the model knows."""
        lengths = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
        for name, texts in columns.items():
            for row, (text, tokens) in enumerate(zip(texts, self.tokenizer.encode_all(texts), strict=True)):
                if not len(tokens):
                    raise Refusal(f"{name}: text {row} is empty; send texts with words")
                if (tokens == self.unknown).all():
                    raise Refusal(f"{name}: {text[:30]!r} has no character that this model knows; send another text")
                lengths[row] += len(tokens)
        room = self.length - 1 - len(columns)
        if lengths.max() > room:
            row = int(lengths.argmax())
            raise Refusal(
                f"{', '.join(columns)}: text {row} has {lengths[row]} tokens, and this model takes {room}; cut it"
            )

    def shorten(self, text: str, share: float = 1.0) -> str:
        """Return a text cut between words so that it has at most a share of the tokens that the model takes."""
        room = max(1, int((self.length - 3) * share))
        words = text.split()
        while len(words) > 1 and len(self.tokenizer.encode(" ".join(words))) > room:
            words = words[: max(1, len(words) * 9 // 10)]
        return " ".join(words)

    def _cut(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """Cut the longer part until all fit between their marks."""
        room = self.length - 1 - len(parts)
        if len(parts) == 1:
            return [parts[0][:room]]
        first, second = parts
        shorter = min(len(first), len(second), room // 2)
        return [
            part[: max(shorter, room - min(len(other), room - shorter))]
            for part, other in ((first, second), (second, first))
        ]

    def join(self, rows: Sequence[Sequence[np.ndarray]], device: torch.device) -> TextBatch:
        """Return rows of one or two parts as a batch, padded to the longest of them."""
        lengths = [1 + sum(len(part) + 1 for part in row) for row in rows]
        tokens = np.full((len(rows), max(lengths)), self.pad, dtype=np.int64)
        segments = np.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, 0] = self.cls
            place = 1
            for segment, part in enumerate(row):
                end = place + len(part)
                tokens[number, place:end] = part
                tokens[number, end] = self.sep
                segments[number, place : end + 1] = segment
                place = end + 1
        valid = np.arange(tokens.shape[1]) < np.array(lengths)[:, None]
        return TextBatch(*(torch.from_numpy(values).to(device) for values in (tokens, segments, valid)))


def predict_by_length(
    rows: Sequence[Sequence[np.ndarray]], predict: Callable[[list[int]], list[Tensor]]
) -> list[list[Tensor]]:
    """Return what `predict` returns for each row, calling it with the numbers of rows of similar length."""
    lengths = [sum(map(len, row)) for row in rows]
    order = np.argsort(lengths, kind="stable").tolist()
    results: list[list[Tensor]] = [[] for _ in rows]
    for start in range(0, len(order), BUCKET):
        numbers = order[start : start + BUCKET]
        for number, result in zip(numbers, zip(*predict(numbers), strict=True), strict=True):
            results[number] = list(result)
    return results
