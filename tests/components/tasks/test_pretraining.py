"""Pretraining: the loss of transformers, means over tokens whatever the shards, blanks filled, bad requests."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.augment.masking import Masking
from components.data.sentence_pairs import SentencePairs
from components.errors import Refusal
from components.models.bert import BERT
from components.models.bert_folder import to_hugging_face
from components.optimizers import adamw
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.pretraining import Pretraining
from components.tokens.words import Words
from components.training import engine, evaluation, exported
from components.training.task import Shard, Spec
from tests.components.data.test_sentence_pairs import Numbered

SIZES = {"width": 32, "layers": 2, "heads": 2, "inner": 64, "positions": 40}
SECTION = {"use": "tasks.pretraining.Pretraining", "model": {"use": "models.bert.BERT", **SIZES}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("pairs")
    source = partial(Numbered, count=20, length=30)
    prepare_dataset(SentencePairs(source, partial(Words, min_count=2), Masking, length=32, maskings=2), folder)
    return Store(folder)


def spec(store: Store) -> Spec:
    columns = {name: tuple(column["shape"]) for name, column in store.manifest["columns"].items()}
    return Spec(columns, tuple(store.manifest["classes"]), {}, store.tokenizers())


def task(**sizes) -> Pretraining:
    return Pretraining(partial(BERT, **(SIZES | {"dropout": 0.0} | sizes)), partial(adamw, lr=3e-3))


def test_the_loss_of_full_rows_is_that_of_transformers(store: Store) -> None:
    from transformers import BertConfig, BertForPreTraining

    mine = task()
    state = mine.setup(spec(store))
    feed = Feed(store.split("train"))
    batch = feed.gather(np.arange(60))
    full = (batch["target"] != 0).all(1)
    batch = {name: values[full] for name, values in batch.items()}
    assert len(batch["row"]) > 30
    keys = dict(zip(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
                    list(SIZES.values())[:4], strict=True))  # fmt: skip
    config = BertConfig(vocab_size=len(store.manifest["classes"]), max_position_embeddings=40, **keys)
    original = BertForPreTraining(config).eval()
    original.load_state_dict(to_hugging_face(state.modules["net"].state_dict()), strict=False)
    original.tie_weights()
    tokens, targets = batch["token"].long(), batch["target"].long()
    labels = torch.full(tokens.shape, -100).scatter(1, batch["position"].long(), targets)
    with torch.no_grad():
        loss, metrics = mine.loss(state, Shard(batch, torch.Generator(), 0))
        expected = original(
            tokens,
            (tokens != 0).long(),
            batch["segment"].long(),
            labels=labels,
            next_sentence_label=batch["unrelated"].long(),
        )
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert 0 < float(metrics["hidden_loss"]) < float(loss)


def test_biases_and_norms_are_not_decayed(store: Store) -> None:
    state = task().setup(spec(store))
    weights, biases = state.optimizers["net"].param_groups
    assert weights["weight_decay"] > 0 == biases["weight_decay"]
    names = {id(parameter): name for name, parameter in state.modules["net"].named_parameters()}
    assert {names[id(parameter)] for parameter in biases["params"]} == {
        name for name in names.values() if name.endswith("bias") or "norm" in name
    }
    assert len(weights["params"]) + len(biases["params"]) == len(names)


def test_it_learns_to_fill_blanks_and_which_passages_follow(store: Store) -> None:
    mine = task()
    test = Feed(store.split("validation"))
    before = evaluation.evaluate(mine, mine.setup(spec(store)), test)[0]
    outcome = engine.fit(mine, spec(store), Feed(store.split("train")), None, epochs=12, batch=32)
    scores, predictions = evaluation.evaluate(mine, outcome.state, test)
    assert scores["perplexity"] < before["perplexity"] / 2
    assert scores["accuracy"] > 0.15
    assert 0.5 <= scores["order_majority"] < 0.75
    text = mine.draw(outcome.state, predictions, evaluation.target_columns(mine, test))["blanks"]
    assert "[MASK]" in text
    assert "right" in text


def test_scores_by_hand() -> None:
    """Padding among the hidden tokens does not count; the passages' accuracy is that of their own predictions."""
    predictions = {
        "nll": np.array([[0.5, 1.5], [1.0, 99.0]], np.float32),
        "token": np.array([[7, 8], [9, 5]]),
        "unrelated": np.array([1, 0]),
        "order_nll": np.array([0.25, 0.75]),
    }
    targets = {"target": np.array([[7, 9], [9, 0]]), "unrelated": np.array([1, 1])}
    scores = task().score(predictions, targets)
    assert scores["loss"] == pytest.approx(1.0)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["order_accuracy"] == 0.5
    assert scores["order_majority"] == 1
    assert scores["order_loss"] == 0.5


def test_an_exported_model_fills_blanks_in_texts(store: Store, tmp_path: Path) -> None:
    mine = task()
    state = mine.setup(spec(store))
    exported.write_model(tmp_path, state, spec(store), SECTION)
    restored, restored_state = exported.read_model(tmp_path)
    filled = restored.predict(restored_state, {"text": ["d1 [MASK] w0", "w0 w1"]})
    assert filled["text"][1] == "w0 w1"
    assert filled["text"][0].startswith("d1 ")
    assert "[MASK]" not in filled["text"][0]
    assert float(filled["probability"][1]) == 1 > float(filled["probability"][0])
    batch = Feed(store.split("validation")).gather(np.arange(2))
    assert all("[MASK]" in text or text for text in mine.serving_inputs(batch)["text"])
    messages = {
        "": "has 0 tokens",
        "w0 " * 31: "has 31 tokens; this model takes 1 to 30",
        "☃ ☃": "has no character that this model knows",
    }
    for text, message in messages.items():
        with pytest.raises(Refusal, match=message):
            restored.predict(restored_state, {"text": [text]})


def test_data_of_another_kind_and_too_few_positions_are_refused(store: Store) -> None:
    with pytest.raises(Refusal, match=r"needs rows with hidden tokens; use data.sentence_pairs"):
        task().setup(Spec({"token": (33,)}, (), {}))
    with pytest.raises(Refusal, match=r"task.model.positions: 16 are fewer than data.length: 32"):
        task(positions=16).setup(spec(store))
