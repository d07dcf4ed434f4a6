"""Fine-tuning: each task learns a toy, rows do not depend on their batch, layers have their rates, bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.errors import Refusal
from components.models.bert import BERT
from components.optimizers import adamw
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Column, Store
from components.tasks.answering import Answering, best_spans
from components.tasks.sentence_regression import SentenceRegression
from components.tasks.sentences import SentenceClassification
from components.tasks.tagging import Tagging
from components.tokens.wordpiece import MARKS, WordPiece
from components.training import engine, evaluation, exported
from components.training.task import Shard, Spec, State, Task

COLOURS, ANIMALS = ["red", "green", "blue", "black"], ["dog", "cat", "cow", "hen"]
MODEL = partial(BERT, width=32, layers=2, heads=2, inner=64, positions=40, dropout=0.0)
SECTION = {"use": "models.bert.BERT", "width": 32, "layers": 2, "heads": 2, "inner": 64, "positions": 40}


class Toys:
    """Sentences such as "the red dog saw a cow", for one kind of task."""

    name, licence, source = "toys", "CC0", "written here"

    def __init__(self, kind: str, count: int = 96) -> None:
        self.kind = kind
        self.count = count
        self.classes = {"sentences": ["no", "yes"], "tagging": ["O", "B-colour", "B-animal"]}.get(kind, [])
        self.tokenizers = {"text": WordPiece(120).train([row["all"] for row in self.rows("train")], MARKS)}
        self.columns = {
            "sentences": {"text": Column("utf8"), "pair": Column("utf8"), "label": Column("int64")},
            "regression": {"text": Column("utf8"), "score": Column("float32")},
            "tagging": {"text": Column("utf8"), "tags": Column("int32", (None,))},
            "answering": {
                **{name: Column("utf8") for name in ("question", "context", "answer")},
                "start": Column("int64"),
            },
        }[kind]

    def rows(self, split: str) -> list[dict[str, Any]]:
        random = np.random.default_rng(split == "train")
        rows = []
        for _ in range(self.count):
            colour, first, second = random.choice(COLOURS), random.choice(ANIMALS), random.choice(ANIMALS)
            text = f"the {colour} {first} saw a {second}" + " once" * int(random.integers(3))
            words = text.split()
            kinds = [1 if word in COLOURS else 2 if word in ANIMALS else 0 for word in words]
            rows.append(
                {
                    "all": f"{text} who was seen by the what",
                    "text": text,
                    "pair": f"{colour} {first}" if random.random() < 0.5 else "a cow who saw",
                    "score": float(COLOURS.index(colour)),
                    "tags": np.array(kinds, dtype=np.int32),
                    "question": "who was seen",
                    "context": text,
                    "answer": second,
                    "start": text.index(f" a {second}") + 3,
                }
            )
            rows[-1]["label"] = int(rows[-1]["pair"] != "a cow who saw")
        return rows

    def parts(self) -> dict[str, int]:
        return {"train": 1, "test": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for row in self.rows(split):
            yield {name: row[name] for name in self.columns}


TASKS: dict[str, Callable[..., Task]] = {
    "sentences": SentenceClassification,
    "regression": SentenceRegression,
    "tagging": Tagging,
    "answering": Answering,
}
each_task = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    stores = {}
    for kind in TASKS:
        folder = tmp_path_factory.mktemp(kind)
        prepare_dataset(Toys(kind), folder)
        stores[kind] = Store(folder)
    return stores


def spec(store: Store) -> Spec:
    columns = {name: tuple(column["shape"]) for name, column in store.manifest["columns"].items()}
    return Spec(columns, tuple(store.manifest["classes"]), {}, store.tokenizers())


def start(kind: str, store: Store, **options: Any) -> tuple[Any, State]:
    torch.manual_seed(0)
    task = TASKS[kind](**({"model": MODEL, "length": 40, "optimizer": partial(adamw, lr=3e-3)} | options))
    return task, task.setup(spec(store))


@each_task
def test_it_learns_the_toy(kind: str, stores: dict[str, Store]) -> None:
    task, _ = start(kind, stores[kind])
    train, test = (Feed(stores[kind].split(split)) for split in ("train", "test"))
    outcome = engine.fit(task, spec(stores[kind]), train, None, epochs=12, batch=16)
    scores, predictions = evaluation.evaluate(task, outcome.state, test)
    assert scores[task.monitor[0]] > 0.9
    assert isinstance(task.draw(outcome.state, predictions, evaluation.target_columns(task, test)), dict)


@each_task
def test_a_row_does_not_depend_on_its_batch(kind: str, stores: dict[str, Store]) -> None:
    task, state = start(kind, stores[kind])
    state.modules["net"].eval()
    batch = Feed(stores[kind].split("test")).gather(np.arange(7))
    with torch.no_grad():
        together = task.predict(state, batch)
        alone = [task.predict(state, {name: values[row : row + 1] for name, values in batch.items()}) for row in (2, 6)]
    for name, values in together.items():
        for row, single in zip((2, 6), alone, strict=True):
            if isinstance(values, np.ndarray):
                assert values[row] == single[name][0]
            else:
                torch.testing.assert_close(values[row], single[name][0])


@each_task
def test_an_exported_model_takes_texts_and_brings_its_tokenizer(kind: str, stores: dict, tmp_path: Path) -> None:
    task, state = start(kind, stores[kind])
    section = {"use": f"{type(task).__module__.removeprefix('components.')}.{type(task).__name__}"}
    exported.write_model(tmp_path, state, spec(stores[kind]), section | {"model": SECTION, "length": 40})
    restored, restored_state = exported.read_model(tmp_path)
    state.modules["net"].eval()
    row = Toys(kind).rows("test")[0]
    request = {name: [row[name]] for name in ("text", "pair", "question", "context") if name in restored.serving_inputs
               (Feed(stores[kind].split("test")).gather(np.arange(1)))}  # fmt: skip
    with torch.no_grad():
        for name, values in task.predict(state, request).items():
            assert np.array_equal(np.asarray(values), np.asarray(restored.predict(restored_state, request)[name]))
    for text, message in (("", "empty"), ("red " * 50, r"has \d+ tokens"), ("☃ ☃", "no character that this model")):
        with pytest.raises(Refusal, match=message) as refused:
            restored.predict(restored_state, request | {next(reversed(request)): [text]})
        assert "\n" not in str(refused.value)
    with pytest.raises(Refusal, match=f"input: has no '{next(iter(request))}'; send the columns"):
        restored.predict(restored_state, {})


@each_task
def test_data_without_the_columns_are_refused(kind: str, stores: dict[str, Store]) -> None:
    with pytest.raises(Refusal, match="needs a column"):
        TASKS[kind](model=MODEL).setup(Spec({"image": (8, 8, 1)}, ("a",), {}))


def group_rates(state: State) -> dict[str, float]:
    """Return {parameter: its learning rate}; parameters that are not trained have none."""
    rates = {id(p): group["lr"] for group in state.optimizers["net"].param_groups for p in group["params"]}
    return {name: rates[id(p)] for name, p in state.modules["net"].named_parameters() if id(p) in rates}


def test_each_layer_has_its_rate_and_biases_do_not_decay(stores: dict[str, Store]) -> None:
    store = stores["sentences"]
    _, state = start("sentences", store, optimizer=partial(adamw, lr=1.0), body_rate=0.5, layer_decay=0.1)
    rates = group_rates(state)
    assert len(rates) == len(list(state.modules["net"].parameters()))
    expected = {"head.weight": 1.0, "body.pooler.bias": 0.5, "body.layers.1.inner.weight": 0.5,
                "body.layers.0.inner.weight": 0.05, "body.token.weight": 0.005}  # fmt: skip
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    for group in state.optimizers["net"].param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_frozen_layers_keep_their_weights(stores: dict[str, Store]) -> None:
    store = stores["sentences"]
    _, state = start("sentences", store, frozen=1)
    trained = {name.partition(".")[2].partition(".attention")[0] for name in group_rates(state)}
    assert not any(name.startswith(("token", "position", "layers.0")) for name in trained)
    assert any(name.startswith("layers.1") for name in trained)
    _, state = start("sentences", store, body_rate=0.0)
    assert set(group_rates(state)) == {"head.weight", "head.bias"}
    task, _ = start("sentences", store, frozen=1)
    before = start("sentences", store, frozen=1)[1].modules["net"].state_dict()
    after = engine.fit(task, spec(store), Feed(store.split("train")), None, epochs=1, batch=32).state.modules["net"]
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert "body.layers.0.inner.weight" not in changed
    assert {"body.layers.1.inner.weight", "head.weight"} <= changed
    with pytest.raises(Refusal, match=r"task.frozen: 3 is more than the 2 layers"):
        start("sentences", store, frozen=3)


@pytest.mark.parametrize(("pooling", "is_trained"), [("first", True), ("mean", False)])
def test_the_pooler_is_trained_where_the_head_sees_it(pooling: str, is_trained: bool, stores: dict) -> None:
    _, state = start("sentences", stores["sentences"], pooling=pooling)
    assert all(p.requires_grad == is_trained for p in state.modules["net"].body.pooler.parameters())


def test_long_pairs_lose_the_end_of_the_longer_text(stores: dict[str, Store]) -> None:
    task, _ = start("sentences", stores["sentences"], length=11)
    lengths = [
        [len(part) for part in task.reader.encode(["red " * a], ["dog " * b])[0]]
        for a, b in ((3, 3), (9, 2), (2, 9), (9, 9))
    ]
    assert lengths == [[3, 3], [6, 2], [2, 6], [4, 4]]
    assert [len(part) for part in task.reader.encode(["red " * 20])[0]] == [9]


def test_the_best_span_is_that_of_a_search_over_all() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 40, 2)
    logits[:, :4] = -torch.inf
    for row, (first, last, probability) in enumerate(zip(*best_spans(logits), strict=True)):
        start_p, end_p = (logits[row, :, side].softmax(0).tolist() for side in range(2))
        spans = {(a, b): start_p[a] * end_p[b] for a in range(40) for b in range(a, min(40, a + 30))}
        assert (int(first), int(last)) == max(spans, key=lambda span: spans[span])
        assert float(probability) == pytest.approx(max(spans.values()), rel=1e-4)


def test_tokens_of_words_and_answers_are_found(stores: dict[str, Store]) -> None:
    """Check the targets of the loss on words of several tokens."""
    task, _ = start("tagging", stores["tagging"])
    tokens, words = task._read(["seenby reddog", ""])
    vocabulary = task.reader.tokenizer.vocabulary
    assert not vocabulary[tokens[0][words[0][1]]].startswith("##")
    assert len(words[0]) == 2 < len(tokens[0])
    assert len(words[1]) == 0
    task, _ = start("answering", stores["answering"])
    context = "the red dog saw a black hen"
    batch = {"question": ["who was seen"], "context": [context], "row": torch.zeros(1)}
    (question,) = task._read(batch)
    from components.tasks.answering import find_span

    first, last = find_span(question, context.index("black"), context.index("hen"))
    offsets = question.offsets[first - question.first : last - question.first + 1]
    assert context[offsets[0][0] : offsets[-1][1]] == "black"


def test_shards_and_microbatches_of_texts_are_averaged_by_their_terms(stores: dict[str, Store]) -> None:
    task, state = start("tagging", stores["tagging"])
    batch = Feed(stores["tagging"].split("train")).gather(np.arange(6))
    shard = Shard(batch, torch.Generator(), 0)
    task.loss(state, shard)
    assert shard.weight == sum(len(text.split()) for text in batch["text"])


@pytest.mark.parametrize(("length", "message"), [(2, "leaves no room for texts"), (41, "more than the 40 positions")])
def test_a_length_without_room_is_refused(stores: dict[str, Store], length: int, message: str) -> None:
    with pytest.raises(Refusal, match=f"task.length: {length} (is )?{message}"):
        start("answering", stores["answering"], length=length)
