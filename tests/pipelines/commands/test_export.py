"""`trainyard export`: transformers gives the same outputs for the folder that it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import exported
from components.training.task import Spec, State
from pipelines.door import main
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


def test_a_model_that_transformers_cannot_express_is_refused(tmp_path: Path, capsys) -> None:
    prepare_dataset(Toys("sentences", 12), tmp_path / "data")
    _, state = start("sentences", Store(tmp_path / "data"), pooling="mean")
    section = {"use": "tasks.sentences.SentenceClassification", "model": SECTION, "length": 40, "pooling": "mean"}
    exported.write_model(tmp_path / "model", state, spec(Store(tmp_path / "data")), section)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "folder")]) == 2
    assert "was trained with task.pooling: mean, which transformers' classes lack" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


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
