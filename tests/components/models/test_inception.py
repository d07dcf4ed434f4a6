"""Inception-v3 from a file gives torchvision's features and probabilities, and another file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import inception_v3

from components.errors import Refusal
from components.models import inception
from components.models.inception import DEVIATION, MEAN, Inception
from components.recipes import recipe
from components.tasks.judge import Judge
from components.training.peers import Peers
from pipelines.workers.records import FitJob
from pipelines.workers.training import fit_and_score

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    torch.manual_seed(0)
    net = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=False).eval()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return net


@pytest.fixture(scope="module")
def file(reference: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(reference.state_dict(), path)
    return path


def test_features_and_probabilities_equal_torchvisions(reference: torch.nn.Module, file: Path) -> None:
    pictures = torch.randint(256, (2, 299, 299, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    judge = Judge(str(file))
    features, probability = judge(pictures)
    inputs = (pictures.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(
        1, 3, 1, 1
    )
    pooled: list[torch.Tensor] = []
    with torch.no_grad(), reference.avgpool.register_forward_hook(lambda m, a, out: pooled.append(out.flatten(1))):
        logits = reference(inputs)
    assert features.shape == (2, 2048)
    assert torch.allclose(features, pooled[0], rtol=1e-4, atol=1e-4)
    assert torch.allclose(probability, logits.softmax(1), rtol=1e-3, atol=1e-6)
    assert judge.description == f"Inception-v3 with the weights {file}"
    grey = judge(pictures[:1, :16, :16, :1])[0]
    assert torch.equal(grey, judge(pictures[:1, :16, :16, :1].expand(-1, -1, -1, 3))[0])


def test_a_run_names_the_file_in_its_tag(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the recipe of the DCGAN on few small glyphs, from data to scores, with Inception as its judge."""
    monkeypatch.setattr(inception, "SIDE", 75)  # the smallest that Inception takes, a sixteenth of the work
    content = recipe.load(ROOT / "pipelines/generative/dcgan.yaml")
    data = {"use": "data.posed_glyphs.PosedGlyphs", "per_class": 4, "size": 16}
    section = {
        "task": content["task"] | {"judge": str(file)},
        "fit": content["fit"] | {"epochs": 1, "batch": 20, "evaluate_every": 1},
    }
    job = FitJob(section, run=str(tmp_path / "run"), out=str(tmp_path / "model"), seed=0)
    result = fit_and_score(Peers(), data, str(tmp_path), job)
    assert result is not None
    assert result.tags["features"] == f"Inception-v3 with the weights {file}"
    assert result.scores["fid"] > 0
    assert result.scores["inception_score"] >= 1


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "other.safetensors")
    with pytest.raises(Refusal, match=r"^task.judge: .*other.safetensors does not hold torchvision's inception_v3 "):
        Inception(tmp_path / "other.safetensors")
