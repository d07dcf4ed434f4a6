"""Weights of torchvision give its features, and tensors that do not fit are listed."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as TorchvisionResNet
from torchvision.models.vgg import make_layers

from components.errors import Refusal
from components.layers.batch_norm import BatchNorm
from components.models.lenet import LeNet
from components.models.pretrained import copy_weights, match_weights
from components.models.resnet import ResNet
from components.models.vgg import VGG
from components.tasks.classification import Classification
from components.training import exported
from components.training.task import Spec

SPEC = Spec({"image": (64, 64, 3), "label": ()}, ("a", "b"), {"mean": [0.5] * 3, "std": [0.25] * 3})


def randomize(net: nn.Module) -> nn.Module:
    """Draw weights and statistics of batch normalisation at random, as if the network had been trained."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Return torchvision's ResNet-18, and its weights as a file."""
    net = randomize(TorchvisionResNet(BasicBlock, [2, 2, 2, 2], num_classes=7))
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(net.state_dict(), file)
    return net, file


def maps(net: nn.Module, x: Tensor) -> Tensor:
    """Return torchvision's features before global average pooling."""
    for name, layer in list(net.named_children())[:-2]:
        assert name not in ("avgpool", "fc")
        x = layer(x)
    return x


@torch.no_grad()
def test_resnet18_with_torchvisions_weights_gives_its_features(resnet18: tuple[nn.Module, Path]) -> None:
    other, file = resnet18
    mine = ResNet(3, (64, 64), 5)
    head = mine.head.weight.clone()
    match = copy_weights(mine, file, "task.start")
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(mine.eval().body(mine.stem(x)), maps(other, x), rtol=1e-4, atol=1e-4)
    assert torch.equal(mine.head.weight, head), "the output layer belongs to another data set"
    own = [name for name in mine.state_dict() if not name.startswith("head.")]
    assert str(match) == f"{len(own)} of {len(own)} tensors of the body from resnet18.safetensors"
    assert not mine.body[3].conv2.bias.any()


@torch.no_grad()
def test_layers_that_do_not_fit_stay_and_are_listed(resnet18: tuple[nn.Module, Path]) -> None:
    """One grey channel, and a stage of another width: complete layers stay as they were."""
    grey = ResNet(1, (64, 64), 5, widths=[64, 128, 300])
    before = {name: value.clone() for name, value in grey.state_dict().items()}
    match = copy_weights(grey, resnet18[1], "task.start")
    stay = {"stem.0.weight", "stem.0.bias"} | {name for name in before if name.startswith(("body.4.", "body.5."))}
    assert match.unmatched.keys() == stay
    assert match.unmatched["stem.0.weight"] == "[64, 3, 7, 7] there, [64, 1, 7, 7] here"
    after = grey.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= match.tensors.keys()
    assert {"stem.1.weight", "body.3.conv2.bias", "body.2.shortcut.weight"} <= changed
    weights = resnet18[0].state_dict()
    assert torch.equal(after["body.3.conv1.weight"], weights["layer2.1.conv1.weight"])
    assert str(match).startswith(
        f"{len(match.tensors)} of {len(before) - 2} tensors of the body from resnet18.safetensors; as"
    )
    assert "stem.0.weight ([64, 3, 7, 7] there, [64, 1, 7, 7] here)" in str(match)
    deep = match_weights(ResNet(3, (64, 64), 5, blocks=3), resnet18[1], "task.start")
    assert {name.split(".")[1] for name in deep.unmatched} == {"2", "5", "8", "11"}


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d, BatchNorm])
@torch.no_grad()
def test_vgg_with_torchvisions_weights_gives_its_features(norm: Any, tmp_path: Path) -> None:
    other = randomize(make_layers([4, "M", 6, "M", 8, 8, "M"], batch_norm=norm is not None))
    weights = {f"features.{name}": value for name, value in other.state_dict().items()}
    weights |= {"classifier.3.weight": torch.ones(9, 9), "classifier.3.bias": torch.ones(9)}
    save_file(weights, tmp_path / "v.safetensors")
    mine = VGG(3, (16, 16), 4, convolutions=[1, 1, 2], widths=[4, 6, 8], hidden=9, norm=norm).eval()
    match = copy_weights(mine, tmp_path / "v.safetensors", "task.start")
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(mine.body(x), other(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(mine.dense[4].weight, torch.ones(9, 9))
    assert {*match.unmatched} == {"dense.1.weight", "dense.1.bias"}


def test_names_of_this_project_fit_with_and_without_a_prefix(tmp_path: Path) -> None:
    small = partial(ResNet, widths=[4, 8], blocks=1, stem="cifar")
    source = small(3, (64, 64), 5)
    save_file(source.state_dict(), tmp_path / "plain.safetensors")
    state = Classification(small).setup(SPEC)
    state.modules["net"].load_state_dict(source.state_dict() | small(3, (64, 64), 2).head.state_dict(prefix="head."))
    section = {"use": "tasks.classification.Classification", "model": {"use": "models.resnet.ResNet", "blocks": 1}}
    exported.write_model(tmp_path / "model", state, SPEC, section)
    for file in (tmp_path / "plain.safetensors", tmp_path / "model" / "weights.safetensors"):
        task = Classification(small, start=str(file))
        state = task.setup(SPEC)
        for name, value in state.modules["net"].state_dict().items():
            assert name.startswith("head.") or torch.equal(value, source.state_dict()[name]), name
        own = sum(not name.startswith("head.") for name in source.state_dict())
        assert task.tags(state, {}) == {"start": f"{own} of {own} tensors of the body from {file.name}"}


def test_files_that_are_missing_invalid_or_of_another_network_are_refused(
    resnet18: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    def refused(file: Path, net: nn.Module) -> str:
        with pytest.raises(Refusal) as refusal:
            copy_weights(net, file, "task.start")
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    lenet = LeNet(3, (64, 64), 5)
    message = refused(resnet18[1], lenet)
    assert "fits the model, whose tensors are " in message
    assert "the file holds " in message
    assert "absent.safetensors does not exist" in refused(tmp_path / "absent.safetensors", lenet)
    (tmp_path / "broken.safetensors").write_bytes(resnet18[1].read_bytes()[:1000])
    assert "is not a valid .safetensors file" in refused(tmp_path / "broken.safetensors", lenet)
    torch.save(lenet.state_dict(), tmp_path / "lenet.pth")
    (tmp_path / "renamed.safetensors").write_bytes((tmp_path / "lenet.pth").read_bytes())
    assert "is not a valid .safetensors file" in refused(tmp_path / "renamed.safetensors", lenet)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    net = LeNet(3, (64, 64), 5)
    torch.save(net.state_dict(), tmp_path / "lenet.pth")
    with pytest.raises(Refusal, match="nothing is unpickled here; convert it: python -c ") as refusal:
        Classification(LeNet, start=str(tmp_path / "lenet.pth")).setup(SPEC)
    command = shlex.split(str(refusal.value).partition("convert it: ")[2])
    assert command[:2] == ["python", "-c"]
    exec(command[2])
    again = Classification(LeNet, start=str(tmp_path / "lenet.safetensors")).setup(SPEC)
    assert torch.equal(again.modules["net"].state_dict()["body.0.weight"], net.state_dict()["body.0.weight"])
