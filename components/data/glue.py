"""Tasks of GLUE: sentences and pairs of sentences with a class or a similarity (Wang et al. 2019), original files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Fraction, Seed
from ..storage.draw import draw_order, draw_split
from ..storage.store import Column
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.wordpiece import MARKS

ROWS_PER_PART = 16384
GITHUB = "https://raw.githubusercontent.com/"
COLA = f"{GITHUB}amrnag/Specialized-Transformers/cae3514a52b66977974bfedd7ecc2efd029a72e9/data/"
RTE = f"{GITHUB}footprinthere/AttAttr-Cutoff/2ac92f2fdee447af8e66689945003deff461b106/glue_data/RTE/"
SST2 = f"{GITHUB}awake020/pytorch_Bert_sst2/54e22ca58a656750f474ec61ebccaf5ff596de96/SST-2/"
STSB = (
    f"{GITHUB}zhangzhenhu/Semantic-Texual-Similarity-Toolkits/6f47f1b3b8385ea31ffece0ef4c4e38c351b25ce/"
    "data/stsbenchmark/"
)
TaskName = Literal["sst2", "cola", "rte", "wnli", "stsb"]


class Sheet(NamedTuple):
    """How the files of one task are laid out; columns are numbered from 0."""

    text: int
    pair: int | None
    label: int
    header: str  # the first field of a header line; "" where there is none
    labels: tuple[str, ...]  # as they are in the files; () for a score
    classes: tuple[str, ...]
    splits: dict[str, str]  # split -> file
    licence: str


SHEETS: dict[str, Sheet] = {
    "sst2": Sheet(
        1, None, 0, "label", ("0", "1"), ("negative", "positive"),
        {"train": "train.tsv", "test": "dev.tsv"}, "not stated; research use (Socher et al. 2013)",
    ),
    "cola": Sheet(
        3, None, 1, "", ("0", "1"), ("unacceptable", "acceptable"),
        {"train": "train.tsv", "validation": "val.tsv", "test": "dev.tsv"}, "not stated; research use",
    ),
    "rte": Sheet(
        1, 2, 3, "index", ("not_entailment", "entailment"), ("not_entailment", "entailment"),
        {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}, "not stated; research use",
    ),
    "wnli": Sheet(
        1, 2, 3, "index", ("0", "1"), ("not_entailment", "entailment"),
        {"train": "train.tsv", "validation": "val.tsv", "test": "dev.tsv"}, "CC BY 4.0",
    ),
    "stsb": Sheet(
        5, 6, 4, "", (), (),
        {"train": "sts-train.csv", "validation": "sts-dev.csv", "test": "sts-test.csv"}, "see LICENSE.txt beside it",
    ),
}  # fmt: skip


class GLUE:
    """One task of GLUE: columns "text", "pair" where there are two sentences, and "label", or "score" (0 to 5).

    The split "test" is the official development set, whose labels are public; for stsb it is the official test set, and
    for rte a part of both (its copy was split again). Validation examples are a part of the official training set.

    train: number of training examples to use, a random draw that depends on their content alone (None: all)
    words: training examples with fewer words are left out, as sst2 has many phrases of one or two
    validation: share of sst2's training set; the other tasks have a file
    tokens: what the vocabulary consists of, for a task without `start` (None: the task brings a tokenizer)
    """

    source = "the files of GLUE, by the repositories that `originals` names"
    raw_folder = ""  # every task has a folder of its own
    by_name = True
    originals: ClassVar[Originals] = {
        "cola/train.tsv": (f"{COLA}CoLA/train.tsv", "23eacd0266921c82d642574a169af516"),
        "cola/val.tsv": (f"{COLA}CoLA/val.tsv", "16adcc858959a3cb8d5ac545dd402f55"),
        "cola/dev.tsv": (f"{COLA}CoLA/dev.tsv", "c5475ccefc9e7ca0917294b8bbda783c"),
        "rte/train.tsv": (f"{RTE}train.tsv", "39753d2b511a78a7fdae460a4543bbdc"),
        "rte/dev.tsv": (f"{RTE}dev.tsv", "ad5592474110269b35c02a962dc996a0"),
        "rte/test.tsv": (f"{RTE}test.tsv", "67214c681b451c47f42a0d4ad2c3e7c7"),
        "sst2/train.tsv": (f"{SST2}train.tsv", "0f7c7389da97a0e006a89ffb5efbcaa5"),
        "sst2/dev.tsv": (f"{SST2}dev.tsv", "2b070f88622773268a9bb41c6e941e60"),
        "stsb/sts-train.csv": (f"{STSB}sts-train.csv", "e0a88b5f5df2159a499edb6183bd6722"),
        "stsb/sts-dev.csv": (f"{STSB}sts-dev.csv", "d8861ba32277033ed6b1315883894f78"),
        "stsb/sts-test.csv": (f"{STSB}sts-test.csv", "f8c608a4dcfeff4ea11912ea72aacd6e"),
        "wnli/train.tsv": (f"{COLA}WNLI/train.tsv", "21538727644f173234ac892c66073208"),
        "wnli/val.tsv": (f"{COLA}WNLI/val.tsv", "68fdf108159304ccd20e29aa7fb5109b"),
        "wnli/dev.tsv": (f"{COLA}WNLI/dev.tsv", "a79a6dd5d71287bcad6824c892e517ee"),
    }

    def __init__(
        self,
        task: TaskName,
        raw: str = "data/raw",
        train: Count | None = None,
        words: Count = 1,
        validation: Fraction = 0.01,
        tokens: Callable[..., TokenizerTrainer] | None = None,
        seed: Seed = 0,
    ) -> None:
        self.task = task
        self.sheet = SHEETS[task]
        self.raw = Path(raw)
        self.name = task
        self.licence = self.sheet.licence
        self.train = train
        self.words = words
        self.validation = validation
        self.trainer = None if tokens is None else tokens()
        self.seed = seed
        self.classes = list(self.sheet.classes)
        texts = ["text"] if self.sheet.pair is None else ["text", "pair"]
        self.columns = {name: Column("utf8") for name in texts}
        self.columns |= {"label": Column("int64")} if self.sheet.labels else {"score": Column("float32")}

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return {split: its examples in the file's order}."""
        rows = {split: list(self._read(file)) for split, file in self.sheet.splits.items()}
        if "validation" not in rows:
            drawn = [draw_split(row["text"].encode(), 0.0, self.validation, self.seed) for row in rows["train"]]
            pairs = list(zip(drawn, rows["train"], strict=True))
            for split in ("train", "validation"):
                rows[split] = [row for name, row in pairs if name == split]
        rows["train"] = [row for row in rows["train"] if len(row["text"].split()) >= self.words]
        if self.train is not None:
            if self.train > len(rows["train"]):
                raise Refusal(f"train: {self.task} has only {len(rows['train']):,} training examples; lower it")
            keys = [draw_order(f"{row['text']}\t{row.get('pair')}".encode(), self.seed) for row in rows["train"]]
            chosen = sorted(sorted(range(len(keys)), key=keys.__getitem__)[: self.train])
            rows["train"] = [rows["train"][number] for number in chosen]
        return {split: part for split, part in rows.items() if part}

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"text": the tokenizer} if the recipe asks for one of these data."""
        if self.trainer is None:
            return {}
        texts = [row[name] for row in self.rows["train"] for name in ("text", "pair") if name in row]
        return {"text": self.trainer.train(texts, MARKS)}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(rows) // ROWS_PER_PART) for split, rows in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the examples of one part."""
        yield from self.rows[split][part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the examples of a file; refuses a line that has too few fields, no text, or another label."""
        original = f"{self.task}/{name}"
        file = fetch_file(self.raw, original, *self.originals[original])
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            fields = line.rstrip("\r").split("\t")
            if line and not (number == 1 and self.sheet.header and fields[0] == self.sheet.header):
                yield parse_fields(fields, self.sheet, f"{file}: line {number}")


def parse_fields(fields: list[str], sheet: Sheet, place: str) -> dict[str, Any]:
    """Return one example; place: the file and the line, for errors."""
    numbers = {"text": sheet.text} | ({} if sheet.pair is None else {"pair": sheet.pair})
    if len(fields) <= max(*numbers.values(), sheet.label):
        raise Refusal(f"{place} has too few fields between tabs ({len(fields)}); correct or remove it")
    row: dict[str, Any] = {name: fields[number].strip() for name, number in numbers.items()}
    empty = next((name for name, text in row.items() if not text), None)
    if empty:
        raise Refusal(f"{place}: its {empty} is empty; correct or remove it")
    label = fields[sheet.label].strip()
    if sheet.labels:
        if label not in sheet.labels:
            raise Refusal(f"{place}: {label!r} is not one of {', '.join(sheet.labels)}; correct or remove it")
        return row | {"label": sheet.labels.index(label)}
    try:
        score = float(label)
    except ValueError:
        raise Refusal(f"{place}: {label!r} is not a score; correct or remove it") from None
    return row | {"score": score}
