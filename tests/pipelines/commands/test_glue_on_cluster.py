"""Run `trainyard glue` on a real cluster: real fits in both arms, the report and its picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from components.cluster import prestart
from components.models.bert import FinetuningNet
from components.models.bert_folder import write_hugging_face
from components.tokens.tokenizer import Tokenizer
from tests.components.tasks.test_finetuning import MODEL, Toys
from tests.workspace import clone

SHARED = Path(__file__).parents[4] / "shared" / "data"
RECIPE = "pipelines/bert/wnli.yaml"
pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.slow]  # test_glue.py covers the rest


def write_small_bert(folder: Path) -> None:
    """Write an untrained BERT of two layers as a folder of Hugging Face's."""
    tokenizer = Tokenizer(Toys("sentences").tokenizers["text"].json)
    torch.manual_seed(0)
    net = FinetuningNet(MODEL(vocabulary=len(tokenizer)), 2, "first")
    facts = {"architectures": ["BertForSequenceClassification"]}
    write_hugging_face(folder, net.state_dict(), net.body.sizes, tokenizer, facts)


def test_a_task_is_fitted_in_both_arms_and_reported(cluster_of_two: str, tmp_path: Path) -> None:
    if not (SHARED / "wnli").is_dir():
        pytest.skip(f"{SHARED}/wnli: the files of WNLI are not there")
    write_small_bert(tmp_path / "bert")
    workspace = clone(tmp_path / "yard", {RECIPE: {"fit.epochs": 1, "task.length": 40}})
    workspace.environment[prestart.KEPT_CLUSTER] = cluster_of_two
    command = ["glue", "--start", str(tmp_path / "bert"), "--seeds", "1", "--tasks", "wnli", "--raw", str(SHARED)]
    output = workspace.trainyard(*command)
    row = re.search(r"^\| wnli \| accuracy \| (0\.\d+) \| (0\.\d+) \| 1 \| left out \| left out \|$", output, re.M)
    assert row
    runs = {file.parent.name: file for file in (workspace.folder / "results/glue").glob("wnli-*/metrics.json")}
    assert {name.split("-")[1] for name in runs} == {"pretrained", "scratch"}
    for score, (_, file) in zip(row.groups(), sorted(runs.items()), strict=True):
        measured = workspace.json(str(file.relative_to(workspace.folder)))["accuracy"]
        assert float(score) == pytest.approx(measured, abs=5e-4)
    assert (workspace.folder / "results/glue/README.md").read_text() in output
    assert (workspace.folder / "results/glue/glue.png").stat().st_size > 5000
    before = workspace.bytes("results/glue")
    assert workspace.trainyard(*command).count("| wnli |") == 1
    assert workspace.bytes("results/glue") == before, "no fit is repeated"
