"""Read and write a BERT as a folder: one that this project exported, or one of Hugging Face's.

Hugging Face:    config.json, model.safetensors, and tokenizer.json or vocab.txt
exported here:   model.json, weights.safetensors, tokenizer-COLUMN.json (see training/exported.py)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import Refusal, first_line
from ..files import read_object, write_json
from ..layers.encoder import EPSILON
from ..tokens.tokenizer import Tokenizer
from ..tokens.wordpiece import MARKS, build_tokenizer

SIZES = {  # argument of BERT -> key of config.json
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "positions": "max_position_embeddings",
}
DEFAULTS = {"width": 768, "layers": 12, "heads": 12, "inner": 3072, "positions": 512}  # of `BERT`
FIXED = {"model_type": "bert", "hidden_act": "gelu", "type_vocab_size": 2, "position_embedding_type": "absolute"}
NAMES = {  # part of our net -> its name there
    "body.token": "bert.embeddings.word_embeddings",
    "body.position": "bert.embeddings.position_embeddings",
    "body.segment": "bert.embeddings.token_type_embeddings",
    "body.norm": "bert.embeddings.LayerNorm",
    "body.pooler": "bert.pooler.dense",
    "head.transform": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.following": "cls.seq_relationship",
}
LAYER_NAMES = {  # part of an encoder layer -> its name there
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "norm": "output.LayerNorm",
}
HEADS = {  # class in transformers -> name of its output layer
    "BertModel": None,
    "BertForPreTraining": None,
    "BertForSequenceClassification": "classifier",
    "BertForTokenClassification": "classifier",
    "BertForQuestionAnswering": "qa_outputs",
}


@dataclass(frozen=True)
class SavedBERT:
    """A BERT that was read from a folder."""

    sizes: dict[str, int]  # arguments of `BERT`
    body: dict[str, Tensor]
    head: dict[str, Tensor]  # of pretraining; {} where the folder has another output layer, or none
    tokenizer: Tokenizer


def part_names(layers: int) -> dict[str, str]:
    """Return {part of our net: its name in transformers}."""
    names = dict(NAMES)
    for n in range(layers):
        names |= {f"body.layers.{n}.{ours}": f"bert.encoder.layer.{n}.{name}" for ours, name in LAYER_NAMES.items()}
    return names


def from_hugging_face(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the tensors under our names; those without a place in our net are left out."""
    tensors = {_modern_name(name): tensor for name, tensor in tensors.items()}
    ours = {
        f"{part}.{kind}": tensors[f"{name}.{kind}"]
        for part, name in part_names(layers).items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in tensors
    }
    if "cls.predictions.bias" in tensors:
        ours["head.bias"] = tensors["cls.predictions.bias"]
    return ours


def to_hugging_face(tensors: Mapping[str, Tensor], output: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a net under the names of transformers; output: there the name of the output layer."""
    layers = 1 + max((int(name.split(".")[2]) for name in tensors if name.startswith("body.layers.")), default=-1)
    names = part_names(layers) | ({"head": output} if output else {})
    renamed = {}
    for name, tensor in tensors.items():
        part, _, kind = name.rpartition(".")
        renamed["cls.predictions.bias" if name == "head.bias" and not output else f"{names[part]}.{kind}"] = tensor
    return renamed


def _modern_name(name: str) -> str:
    """Return the name in a file of today for one in an older file, or in one of the body alone."""
    name = re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def read_bert(folder: str | Path, where: str) -> SavedBERT:
    """Return the BERT in a folder; where: the recipe's key to name in errors."""
    folder = Path(folder)
    if (folder / "model.json").is_file():
        saved = _read_exported(folder, where)
    elif (folder / "config.json").is_file():
        saved = _read_hugging_face(folder, where)
    else:
        raise Refusal(
            f"{where}: {folder} holds no BERT; name a folder with model.json (run the stage that writes it: dvc repro)"
            " or with config.json (Hugging Face)"
        )
    if "token.weight" not in saved.body:
        raise Refusal(f"{where}: the weights in {folder} have no table of tokens; use a BERT")
    rows = saved.body["token.weight"].shape[0]
    if len(saved.tokenizer) > rows:
        raise Refusal(
            f"{where}: the tokenizer of {folder} has {len(saved.tokenizer):,} tokens, but its network {rows:,}; take"
            " both from the same model"
        )
    return saved


def _read_exported(folder: Path, where: str) -> SavedBERT:
    record = _read_record(folder / "model.json", where)
    task = record.get("task")
    section = task.get("model") if isinstance(task, dict) else None
    columns = list(record.get("tokenizers", {}))
    if not isinstance(section, dict) or section.get("use") != "models.bert.BERT" or not columns:
        raise Refusal(f"{where}: {folder} holds another kind of model; name the folder of a BERT")
    tensors = _load(folder / "weights.safetensors", where)
    tensors = {name.removeprefix("net."): tensor for name, tensor in tensors.items()}
    sizes = DEFAULTS | {key: value for key, value in section.items() if key in SIZES}
    return _collect(sizes, tensors, Tokenizer.read(folder / f"tokenizer-{columns[0]}.json"))


def _read_hugging_face(folder: Path, where: str) -> SavedBERT:
    config = _read_record(folder / "config.json", where)
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise Refusal(f"{where}: {folder}/config.json has {key}: {config[key]}, not {value}; use a BERT")
    epsilon = config.get("layer_norm_eps", EPSILON)
    if not isinstance(epsilon, int | float) or abs(epsilon - EPSILON) > EPSILON / 10:
        raise Refusal(f"{where}: {folder}/config.json has layer_norm_eps: {epsilon}, not {EPSILON}")
    try:
        sizes = {argument: int(config[key]) for argument, key in SIZES.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{where}: {folder}/config.json has no valid {first_line(error)}; use a BERT") from None
    if not (folder / "model.safetensors").is_file():
        raise Refusal(f"{where}: no {folder}/model.safetensors; save the model in this format (save_pretrained)")
    tensors = from_hugging_face(_load(folder / "model.safetensors", where), sizes["layers"])
    return _collect(sizes, tensors, _read_tokenizer(folder, where))


def _collect(sizes: dict[str, int], tensors: dict[str, Tensor], tokenizer: Tokenizer) -> SavedBERT:
    body = {name.removeprefix("body."): value for name, value in tensors.items() if name.startswith("body.")}
    head = {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
    return SavedBERT(sizes, body, head if "following.weight" in head else {}, tokenizer)


def _read_record(file: Path, where: str) -> dict[str, Any]:
    """Return the object in a JSON file; refuses a damaged one."""
    try:
        return read_object(file)
    except ValueError as error:
        raise Refusal(f"{where}: {file}: damaged ({first_line(error)}); write it again") from None


def _load(file: Path, where: str) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{where}: {file}: damaged or missing ({first_line(error)}); write it again") from None


def _read_tokenizer(folder: Path, where: str) -> Tokenizer:
    """Return the tokenizer of a folder of Hugging Face's, without its own padding and cutting."""
    if (folder / "tokenizer.json").is_file():
        content = _read_record(folder / "tokenizer.json", where) | {"padding": None, "truncation": None}
        if not isinstance(content.get("model"), dict):
            raise Refusal(f"{where}: {folder}/tokenizer.json: has no model; write it again")
        tokenizer = Tokenizer(json.dumps(content, ensure_ascii=False))
    elif (folder / "vocab.txt").is_file():
        settings = folder / "tokenizer_config.json"
        options = _read_record(settings, where) if settings.is_file() else {}
        # A token may be a sign at which `splitlines` cuts, such as U+2028: all later numbers would be wrong
        vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        tokenizer = build_tokenizer(vocabulary, bool(options.get("do_lower_case", True)), MARKS)
    else:
        raise Refusal(f"{where}: {folder} has neither tokenizer.json nor vocab.txt; add one of them")
    for mark in MARKS:
        tokenizer.number(mark)
    return tokenizer


def write_hugging_face(
    folder: Path,
    tensors: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    tokenizer: Tokenizer,
    facts: Mapping[str, Any],
) -> None:
    """Write a net as a folder that transformers reads.

    tensors: of the net. facts: {"architectures": [a key of HEADS], "id2label": {...}, ...}, more of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = HEADS[facts["architectures"][0]]
    prefix = "bert." if facts["architectures"] == ["BertModel"] else ""
    renamed = to_hugging_face(tensors, output)
    named = {name.removeprefix(prefix): tensor.contiguous().clone() for name, tensor in renamed.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    config = {
        **FIXED,
        **{key: sizes[argument] for argument, key in SIZES.items()},
        "vocab_size": tensors["body.token.weight"].shape[0],
        "layer_norm_eps": EPSILON,
        "pad_token_id": tokenizer.number("[PAD]"),
        **facts,
    }
    write_json(folder / "config.json", config)
    (folder / "tokenizer.json").write_text(_with_marks_around(tokenizer), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokenizer.vocabulary), encoding="utf-8")
    normalizer = json.loads(tokenizer.json).get("normalizer") or {}
    options: dict[str, Any] = {mark.lower().strip("[]") + "_token": mark for mark in MARKS}
    lower = bool(normalizer.get("lowercase", True))
    options |= {"do_lower_case": lower, "model_max_length": sizes["positions"], "tokenizer_class": "BertTokenizer"}
    write_json(folder / "tokenizer_config.json", options)


def write_sentence_transformer(
    folder: Path,
    tensors: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    tokenizer: Tokenizer,
    length: int,
    facts: Mapping[str, Any],
) -> None:
    """Write a net that pools by the mean over tokens as a folder that sentence-transformers reads.

    Its "embedding" of a text is what the output layer returns. transformers reads the BERT in the folder, a BertModel.
    length: tokens of the longest text. tensors, facts: see `write_hugging_face`.
    """
    body = {name: tensor for name, tensor in tensors.items() if name.startswith("body.")}
    write_hugging_face(folder, body, sizes, tokenizer, {"architectures": ["BertModel"], **facts})
    weight = tensors["head.weight"]
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(parts)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    pooling = {"word_embedding_dimension": sizes["width"], "pooling_mode_mean_tokens": True}
    dense: dict[str, Any] = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": True}
    dense |= {"activation_function": "torch.nn.modules.linear.Identity"}
    for (path, _), config in zip(parts[1:], (pooling, dense), strict=True):
        (folder / path).mkdir()
        write_json(folder / path / "config.json", config)
    linear = {f"linear.{kind}": tensors[f"head.{kind}"].contiguous().clone() for kind in ("weight", "bias")}
    save_file(linear, folder / "2_Dense" / "model.safetensors", {"format": "pt"})


def _with_marks_around(tokenizer: Tokenizer) -> str:
    """Return the tokenizer.json of a tokenizer that adds [CLS] and [SEP] by itself, as transformers expects."""
    from tokenizers import Tokenizer as Library
    from tokenizers import processors

    library = Library.from_str(tokenizer.json)
    marks = {mark: tokenizer.number(mark) for mark in ("[CLS]", "[SEP]")}
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(marks.items())
    )
    return str(library.to_str())
