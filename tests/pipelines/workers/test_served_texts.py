"""A registered BERT takes texts, not numbers of tokens: its tokenizer travels with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from tests.components.tasks.test_finetuning import SECTION, TASKS, Toys, spec
from tests.pipelines.workers.served import Served, serve_untrained

COLUMNS = {
    "sentences": ("text", "pair"),
    "regression": ("text",),
    "tagging": ("text",),
    "answering": ("question", "context"),
}


@pytest.fixture
def folder(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder with an empty store of MLflow, as the current one."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serve(kind: str, folder: Path) -> tuple[Served, Store]:
    prepare_dataset(Toys(kind, 12), folder / "data")
    store = Store(folder / "data")
    use = f"{TASKS[kind].__module__.removeprefix('components.')}.{TASKS[kind].__name__}"
    section = {"use": use, "model": SECTION, "length": 40}
    return serve_untrained(section, spec(store), Feed(store.split("test")), folder), store


@pytest.mark.parametrize("kind", TASKS)
def test_a_registered_bert_takes_texts(kind: str, folder: Path) -> None:
    served, store = serve(kind, folder)
    inputs = served.model.metadata.signature.inputs
    assert {column.name: column.type.kind for column in inputs} == dict.fromkeys(COLUMNS[kind], "U")
    batch = Feed(store.split("test")).gather(np.arange(3))
    answers = served.model.predict({name: np.array(batch[name]) for name in COLUMNS[kind]})
    expected = served.task.predict(served.state, batch)
    for name in answers:
        mine = np.asarray(expected[name].detach() if hasattr(expected[name], "detach") else expected[name])
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(np.asarray(answers[name]), mine, rtol=1e-4, atol=1e-5)
        else:
            assert np.asarray(answers[name]).tolist() == mine.tolist()
    with pytest.raises(Exception, match="empty"):
        served.model.predict({name: np.array([""]) for name in COLUMNS[kind]})


def test_a_server_takes_texts_as_json(folder: Path) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    served, store = serve("answering", folder)
    batch = Feed(store.split("test")).gather(np.arange(2))
    client = TestClient(scoring_server.init(served.model))
    request = {"inputs": {name: list(batch[name]) for name in COLUMNS["answering"]}}
    answer = client.post("/invocations", json=request).json()
    assert answer["predictions"]["answer"] == served.task.predict(served.state, batch)["answer"].tolist()
