"""Write an exported model in the format of other software: a BERT as a folder of Hugging Face's libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.files import atomic_path

ARCHITECTURES = {  # task -> class in transformers
    "tasks.pretraining.Pretraining": "BertForPreTraining",
    "tasks.sentences.SentenceClassification": "BertForSequenceClassification",
    "tasks.sentence_regression.SentenceRegression": "BertForSequenceClassification",
    "tasks.tagging.Tagging": "BertForTokenClassification",
    "tasks.answering.Answering": "BertForQuestionAnswering",
}


def main(model: str, to: str, folder: str) -> None:
    """Write the model in the folder `model` into the new folder `folder`, in the format `to` ("huggingface")."""
    from components.models.bert_folder import write_hugging_face, write_sentence_transformer
    from components.training import exported

    if Path(folder).exists():
        raise Refusal(f"{folder}: exists; name a new folder, or remove it")
    task, state = exported.read_model(model)
    section = exported.task_section(model)
    if section["use"] not in ARCHITECTURES:
        raise Refusal(f"{model}: holds no BERT but {section['use']}; only a BERT has this format")
    net: Any = state.modules["net"]
    tokenizer = getattr(task, "tokenizer", None) or task.reader.tokenizer  # type: ignore[attr-defined]
    facts: dict[str, Any] = {}
    if section["use"] == "tasks.sentence_regression.SentenceRegression":
        facts |= {"id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
    elif hasattr(task, "classes"):
        names = task.classes
        facts |= {"id2label": {str(n): name for n, name in enumerate(names)}}
        facts |= {"label2id": {name: n for n, name in enumerate(names)}}
    parts = net.state_dict(), net.body.sizes, tokenizer
    with atomic_path(Path(folder)) as draft:
        if section.get("pooling") == "mean":  # no class of transformers does this
            write_sentence_transformer(draft, *parts, task.reader.length, facts)  # type: ignore[attr-defined]
            kind = "BertModel for transformers, and its output layer for sentence-transformers"
        else:
            kind = ARCHITECTURES[section["use"]]
            write_hugging_face(draft, *parts, {"architectures": [kind], **facts})
    print(f"{folder}: {kind}, with its tokenizer")
