"""Inception-v3 from a file gives torchvision's features and probabilities, and another file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import inception_v3

from components.errors import Refusal
from components.models.inception import DEVIATION, MEAN, Inception
from components.tasks.judge import Judge


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


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "other.safetensors")
    with pytest.raises(Refusal, match=r"^task.judge: .*other.safetensors does not hold torchvision's inception_v3 "):
        Inception(tmp_path / "other.safetensors")
