"""`trainyard export`: transformers gives the same outputs for the folder that it writes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.augment.masking import Masking
from components.data.sentence_pairs import SentencePairs
from components.recipes import recipe
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tokens.wordpiece import WordPiece
from components.training import exported
from components.training.task import Spec, State, Task
from pipelines.door import main
from tests.components.data.test_sentence_pairs import Numbered
from tests.components.tasks.test_finetuning import SECTION, TASKS, Toys, spec, start

CLASSES = {
    "sentences": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "answering": "AutoModelForQuestionAnswering",
}


@pytest.mark.parametrize("kind", TASKS)
def test_the_written_folder_gives_the_same_outputs_in_transformers(kind: str, tmp_path: Path, capsys) -> None:
    import transformers

    prepare_dataset(Toys(kind, 12), tmp_path / "data")
    store = Store(tmp_path / "data")
    task, state = start(kind, store)
    section = {"use": f"{type(task).__module__.removeprefix('components.')}.{type(task).__name__}"}
    exported.write_model(tmp_path / "model", state, spec(store), section | {"model": SECTION, "length": 40})
    assert main(["export", str(tmp_path / "model"), "--to", "huggingface", str(tmp_path / "folder")]) == 0
    assert "BertFor" in capsys.readouterr().out
    batch = Feed(store.split("test")).gather(np.arange(6))
    columns = ("question", "context") if kind == "answering" else ("text", "pair") if kind == "sentences" else ("text",)
    texts = [list(batch[name]) for name in columns]
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")(*texts, padding=True, return_tensors="pt")
    original = getattr(transformers, CLASSES[kind]).from_pretrained(tmp_path / "folder").eval()
    net = state.modules["net"].eval()
    rows = task.reader.join(task.reader.encode(*texts), torch.device("cpu"))
    assert inputs["input_ids"].tolist() == rows.tokens.tolist()
    with torch.no_grad():
        expected = original(**inputs)
        logits = net(rows.tokens, rows.segments, rows.valid)
    if kind == "answering":
        torch.testing.assert_close(logits[rows.valid][:, 0], expected.start_logits[rows.valid], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits[rows.valid][:, 1], expected.end_logits[rows.valid], atol=1e-5, rtol=1e-5)
        return
    valid = rows.valid if kind == "tagging" else slice(None)
    torch.testing.assert_close(logits[valid], expected.logits[valid], atol=1e-5, rtol=1e-5)
    if kind in ("sentences", "tagging"):
        assert list(original.config.id2label.values()) == task.classes


def test_a_pretrained_model_gives_the_same_outputs_in_transformers(tmp_path: Path, capsys) -> None:
    import transformers

    prepare_dataset(SentencePairs(partial(Numbered, count=8, length=20), WordPiece, Masking, 32), tmp_path / "data")
    store = Store(tmp_path / "data")
    section = {"use": "tasks.pretraining.Pretraining", "model": SECTION}
    state = recipe.build(section, Task).setup(spec(store))
    exported.write_model(tmp_path / "model", state, spec(store), section)
    assert main(["export", str(tmp_path / "model"), "--to", "huggingface", str(tmp_path / "folder")]) == 0
    assert "BertForPreTraining" in capsys.readouterr().out
    original = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "folder").eval()
    batch = Feed(store.split("train")).gather(np.arange(4))
    tokens, segments = batch["token"].long(), batch["segment"].long()
    positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
    with torch.no_grad():
        expected = original(tokens, (tokens != 0).long(), segments)
        predicted, following, _ = state.modules["net"].eval()(tokens, segments, tokens != 0, positions)
    valid = tokens != 0
    torch.testing.assert_close(predicted[valid], expected.prediction_logits[valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(following, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sentences", "regression"])
def test_a_model_with_a_mean_over_tokens_gives_the_same_outputs_in_sentence_transformers(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers
    from sentence_transformers import SentenceTransformer

    prepare_dataset(Toys(kind, 12), tmp_path / "data")
    store = Store(tmp_path / "data")
    task, state = start(kind, store, pooling="mean")
    section = {"use": f"{type(task).__module__.removeprefix('components.')}.{type(task).__name__}", "pooling": "mean"}
    exported.write_model(tmp_path / "model", state, spec(store), section | {"model": SECTION, "length": 40})
    folder = tmp_path / "folder"
    assert main(["export", str(tmp_path / "model"), "--to", "huggingface", str(folder)]) == 0
    assert "BertModel for transformers" in capsys.readouterr().out
    batch = Feed(store.split("test")).gather(np.arange(6))
    texts = [list(batch[name]) for name in (("text", "pair") if kind == "sentences" else ("text",))]
    rows = task.reader.join(task.reader.encode(*texts), torch.device("cpu"))
    net = state.modules["net"].eval()
    with torch.no_grad():
        logits = net(rows.tokens, rows.segments, rows.valid)
        hidden = net.body(rows.tokens, rows.segments, rows.valid)
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 40
    embedded = model.encode(list(zip(*texts, strict=True)) if len(texts) > 1 else texts[0], convert_to_tensor=True)
    torch.testing.assert_close(embedded, logits, atol=1e-5, rtol=1e-5)
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="pt")
    body = transformers.AutoModel.from_pretrained(folder).eval()
    assert type(body).__name__ == "BertModel"
    with torch.no_grad():
        expected = body(**inputs).last_hidden_state
    torch.testing.assert_close(hidden[rows.valid], expected[rows.valid], atol=1e-5, rtol=1e-5)


def test_another_kind_of_model_and_an_existing_folder_are_refused(tmp_path: Path, capsys) -> None:
    section = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
    data = Spec({"image": (4, 4, 1), "label": ()}, ("a", "b"), {"mean": [0.4], "std": [0.2]})
    from components.models.softmax import Softmax

    exported.write_model(tmp_path / "model", State({"net": Softmax(1, (4, 4), 2)}), data, section)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "folder")]) == 2
    assert "holds no BERT but tasks.classification.Classification" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "folder")]) == 2
    assert not (tmp_path / "folder").exists()
    assert main(["export", str(tmp_path / "model"), str(tmp_path)]) == 2
    assert "exists; name a new folder" in capsys.readouterr().err
