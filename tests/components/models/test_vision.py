"""Networks for pictures have the sizes and shapes of the notes, and follow their equations."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.errors import Refusal
from components.layers.batch_norm import BatchNorm
from components.models.alexnet import AlexNet
from components.models.googlenet import GoogLeNet, Inception
from components.models.lenet import LeNet
from components.models.mlp import MLP
from components.models.nin import NiN
from components.models.resnet import Residual, ResNet
from components.models.softmax import Softmax
from components.models.vgg import VGG


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (LeNet(1, (28, 28), 10), 61_706),
        (ResNet(1, (96, 96), 10), 11_178_378),
        (NiN(1, (224, 224), 10), 1_992_166),
        (GoogLeNet(1, (96, 96), 10), 5_977_530),
        (Softmax(1, (28, 28), 10), 784 * 10 + 10),
        (MLP(1, (28, 28), 10), 784 * 256 + 256 + 256 * 10 + 10),
        (MLP(3, (8, 8), 5, hidden=[7, 6]), 192 * 7 + 7 + 7 * 6 + 6 + 6 * 5 + 5),
    ],
)
def test_the_number_of_parameters(net: nn.Module, count: int) -> None:
    assert parameters(net) == count


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (AlexNet, 46_764_746),
        (VGG, 128_806_154),
        (lambda *a: VGG(*a, convolutions=[2, 2, 3, 3, 3]), 134_300_362),
        (lambda *a: VGG(*a, convolutions=[2, 2, 4, 4, 4]), 139_610_058),
    ],
)
def test_the_number_of_parameters_of_large_networks(make, count: int) -> None:
    with torch.device("meta"):
        assert parameters(make(1, (224, 224), 10)) == count


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (LeNet, (28, 28)),
        (LeNet, (14, 20)),
        (Softmax, (5, 7)),
        (MLP, (5, 7)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=2, stem="cifar"), (9, 16)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=1, stem="imagenet"), (32, 48)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=1, stem="cifar", norm=None), (9, 16)),
        (lambda *a: ResNet(*a, widths=[4, 8], blocks=1, stem="cifar", norm=BatchNorm), (9, 16)),
        (lambda *a: LeNet(*a, norm=BatchNorm), (14, 20)),
        (lambda *a: AlexNet(*a, width=1 / 16), (65, 101)),
        (lambda *a: VGG(*a, [1, 2], widths=[4, 8], hidden=16), (9, 16)),
        (lambda *a: VGG(*a, [1, 2], widths=[4, 8], hidden=16, norm=BatchNorm), (9, 16)),
        (lambda *a: NiN(*a, width=1 / 16), (67, 101)),
        (lambda *a: GoogLeNet(*a, width=1 / 8), (32, 48)),
    ],
)
def test_logits_have_the_right_shape_and_every_parameter_a_gradient(make, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = make(3, size, 6)
    logits = net(torch.randn(2, 3, *size).to(memory_format=torch.channels_last))
    assert logits.shape == (2, 6)
    F.cross_entropy(logits, torch.tensor([0, 5])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    head = net.get_submodule("head")
    assert isinstance(head, nn.Linear) or isinstance(net, NiN)


def test_pictures_too_small_for_lenet_are_refused() -> None:
    assert LeNet(1, (12, 13), 3)(torch.randn(2, 1, 12, 13)).shape == (2, 3)
    with pytest.raises(Refusal, match=r"LeNet needs sides of at least 12, not \(12, 11\); set task.resize"):
        LeNet(1, (12, 11), 3)


def test_the_maps_of_resnet() -> None:
    net = ResNet(1, (96, 96), 10)
    x = net.stem(torch.randn(1, 1, 96, 96))
    shapes = [tuple(x.shape[1:])]
    for block in net.body:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 24, 24)] * 3 + [(128, 12, 12)] * 2 + [(256, 6, 6)] * 2 + [(512, 3, 3)] * 2


def test_dropout_is_off_in_evaluation() -> None:
    net = MLP(1, (4, 4), 3, dropout=0.5).eval()
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


def test_a_residual_block_adds_its_input() -> None:
    block = Residual(3, 3).eval()
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


def test_batch_norm_follows_the_equations() -> None:
    """Check (x - mean) / sqrt(variance + eps) * gamma + beta, with running statistics in evaluation."""
    torch.manual_seed(0)
    layer, x = Residual(2, 2).bn1, torch.randn(8, 2, 3, 3) * 2 + 1
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    gamma, beta = (p.detach().view(1, 2, 1, 1) for p in (layer.weight, layer.bias))
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(layer(x), (x - mean) / (variance + 1e-5).sqrt() * gamma + beta)
    n = x.numel() / 2
    running_mean = 0.1 * mean
    running_variance = 0.9 + 0.1 * variance * n / (n - 1)
    torch.testing.assert_close(layer.running_mean, running_mean.flatten())
    torch.testing.assert_close(layer.running_var, running_variance.flatten())
    layer.eval()
    torch.testing.assert_close(layer(x), (x - running_mean) / (running_variance + 1e-5).sqrt() * gamma + beta)


def maps(body: nn.Module, x: torch.Tensor, of: type[nn.Module] | tuple) -> list[tuple[int, ...]]:
    """Return channels and sides after each layer of the types `of`."""
    shapes = []
    for layer in body:
        x = layer(x)
        if isinstance(layer, of):
            shapes.append(tuple(x.shape[1:]))
    return shapes


def test_the_maps_of_alexnet() -> None:
    with torch.device("meta"):
        net, x = AlexNet(1, (224, 224), 10), torch.empty(1, 1, 224, 224)
        assert maps(net.body, x, nn.Conv2d) == [
            *((96, 54, 54), (256, 26, 26), (384, 12, 12), (384, 12, 12), (256, 12, 12)),
        ]
        assert maps(net.body, x, (nn.MaxPool2d, nn.Flatten)) == [(96, 26, 26), (256, 12, 12), (256, 5, 5), (6400,)]


def test_the_maps_of_nin() -> None:
    with torch.device("meta"):
        net, x = NiN(1, (224, 224), 10), torch.empty(1, 1, 224, 224)
        assert maps(net.body, x, nn.MaxPool2d) == [(96, 26, 26), (256, 12, 12), (384, 5, 5)]
        assert net.head(net.body(x)).shape == (1, 10, 5, 5)
        assert net(x).shape == (1, 10)


def test_the_maps_of_googlenet() -> None:
    with torch.device("meta"):
        net = GoogLeNet(1, (96, 96), 10)
        x = net.stem(torch.empty(1, 1, 96, 96))
        assert x.shape == (1, 192, 12, 12)
        assert maps(net.body, x, Inception) == [
            *((256, 12, 12), (480, 12, 12)),
            *((512, 6, 6), (512, 6, 6), (512, 6, 6), (528, 6, 6), (832, 6, 6)),
            *((832, 3, 3), (1024, 3, 3)),
        ]


def test_the_maps_of_vgg() -> None:
    with torch.device("meta"):
        net, x = VGG(1, (224, 224), 10), torch.empty(1, 1, 224, 224)
        assert net.body(x).shape == (1, 512, 7, 7)
        assert net(x).shape == (1, 10)


@pytest.mark.parametrize(("net", "least"), [(AlexNet, 65), (NiN, 67)])
def test_pictures_too_small_are_refused(net, least: int) -> None:
    with pytest.raises(Refusal, match=f"at least {least}"):
        net(1, (224, least - 1), 10)


def copy_weights(mine: nn.Module, other: nn.Module) -> None:
    """Copy the weights of `other` into `mine`, layer by layer; both have the same types of layers in the same order."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    pairs = [[layer for layer in net.modules() if isinstance(layer, kinds)] for net in (mine, other)]
    for target, source in zip(*pairs, strict=True):
        target.load_state_dict(source.state_dict())


@pytest.mark.parametrize(("name", "convolutions"), [("vgg11", [1, 1, 2, 2, 2]), ("vgg16", [2, 2, 3, 3, 3])])
@torch.no_grad()
def test_vgg_matches_torchvision(name: str, convolutions: list[int]) -> None:
    """Compare the features; before its dense layers torchvision pools to 7x7, which has no effect at 224x224."""
    from torchvision import models

    torch.manual_seed(0)
    other = getattr(models, name)(num_classes=4, init_weights=False).eval()
    mine = VGG(3, (64, 64), 4, convolutions=convolutions, hidden=8).eval()
    copy_weights(mine.body, other.features)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(mine.body(x), other.features(x))


@torch.no_grad()
def test_an_inception_block_matches_torchvision() -> None:
    """torchvision uses batch normalisation instead of biases, and 3x3 in the third path, which is replaced by 5x5."""
    from torchvision.models.googlenet import BasicConv2d
    from torchvision.models.googlenet import Inception as Other

    torch.manual_seed(0)
    other = Other(12, 4, 3, 6, 2, 4, 5)
    other.branch3[1] = BasicConv2d(2, 4, kernel_size=5, padding=2)
    other.eval()
    mine = Inception(12, 4, (3, 6), (2, 4), 5)
    mine_convs = [layer for layer in mine.modules() if isinstance(layer, nn.Conv2d)]
    for target, source in zip(mine_convs, (b for b in other.modules() if isinstance(b, BasicConv2d)), strict=True):
        target.weight.copy_(source.conv.weight / (1 + source.bn.eps) ** 0.5)  # initial statistics
        target.bias.zero_()
    x = torch.randn(2, 12, 9, 7)
    torch.testing.assert_close(mine(x), other(x))


@torch.no_grad()
def test_nin_is_a_dense_network_at_every_pixel() -> None:
    """Compute one output of the first block by three dense layers on the 11x11 pixels of its window."""
    torch.manual_seed(0)
    net, x = NiN(2, (67, 67), 3, width=1 / 16).eval(), torch.randn(1, 2, 67, 67)
    first = net.body[:6]
    window = x[0, :, 8:19, 12:23].flatten()  # of the output (2, 3), with a stride of 4
    for layer in first[::2]:
        window = (layer.weight.flatten(1) @ window + layer.bias).relu()
    torch.testing.assert_close(first(x)[0, :, 2, 3], window, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_alexnet_follows_its_equations() -> None:
    torch.manual_seed(0)
    net, x = AlexNet(2, (99, 67), 3, width=1 / 32).eval(), torch.randn(2, 2, 99, 67)
    a, b, c, d, e, f, g, h = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    y = F.max_pool2d(F.conv2d(x, a.weight, a.bias, stride=4, padding=1).relu(), 3, 2)
    y = F.max_pool2d(F.conv2d(y, b.weight, b.bias, padding=2).relu(), 3, 2)
    for layer in (c, d, e):
        y = F.conv2d(y, layer.weight, layer.bias, padding=1).relu()
    y = F.max_pool2d(y, 3, 2).flatten(1)
    for layer in (f, g):
        y = (y @ layer.weight.T + layer.bias).relu()
    torch.testing.assert_close(net(x), y @ h.weight.T + h.bias)
