"""Write an exported model in the format of other software: a BERT as a folder of Hugging Face's transformers."""

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
    from components.models.bert_folder import write_hugging_face
    from components.training import exported

    if Path(folder).exists():
        raise Refusal(f"{folder}: exists; name a new folder, or remove it")
    task, state = exported.read_model(model)
    section = exported.task_section(model)
    if section["use"] not in ARCHITECTURES:
        raise Refusal(f"{model}: holds no BERT but {section['use']}; only a BERT has this format")
    if section.get("pooling") == "mean":
        raise Refusal(
            f"{model}: was trained with task.pooling: mean, which transformers' classes lack; train with first"
        )
    net: Any = state.modules["net"]
    tokenizer = getattr(task, "tokenizer", None) or task.reader.tokenizer  # type: ignore[attr-defined]
    facts: dict[str, Any] = {"architectures": [ARCHITECTURES[section["use"]]]}
    if section["use"] == "tasks.sentence_regression.SentenceRegression":
        facts |= {"id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
    elif hasattr(task, "classes"):
        names = task.classes
        facts |= {"id2label": {str(n): name for n, name in enumerate(names)}}
        facts |= {"label2id": {name: n for n, name in enumerate(names)}}
    with atomic_path(Path(folder)) as draft:
        write_hugging_face(draft, net.state_dict(), net.body.sizes, tokenizer, facts)
    print(f"{folder}: {facts['architectures'][0]}, with its tokenizer")
