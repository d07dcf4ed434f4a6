"""Check the losses by hand, VGG's published parameter counts, weights from a file, and the canvas."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from components.data.photos import Photos, crop_to_fit
from components.errors import Refusal
from components.losses.style import gram_matrix, total_variation
from components.models.vgg import VGG, Convolutions
from components.optimizers import adam
from components.recipes import recipe
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.style_transfer import StyleTransfer, load_convolutions, normalised
from components.training import engine, evaluation, exported
from components.training.task import Shard, Spec, Task

TINY = {"convolutions": [1, 2], "widths": [4, 6]}


def features(channels: int) -> Convolutions:
    return Convolutions(channels, **TINY)


def test_gram_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # two channels of 1x2
    assert torch.allclose(gram_matrix(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_the_gram_matrix_ignores_positions() -> None:
    features = torch.randn(1, 3, 4, 5)
    shuffled = features.flatten(2)[:, :, torch.randperm(20)].view(1, 3, 4, 5)
    assert torch.allclose(gram_matrix(features), gram_matrix(shuffled), atol=1e-6)


def test_total_variation_by_hand() -> None:
    picture = torch.tensor([[[[0.0, 1.0], [3.0, 1.0]]]])
    assert total_variation(picture).item() == pytest.approx(((3 + 0) / 2 + (1 + 2) / 2) / 2)


def test_terms_by_hand() -> None:
    """Check the terms of a content and two styles, which share the weight."""
    torch.manual_seed(0)
    weights = {"content_weight": 2.0, "style_weight": 30.0, "variation_weight": 5.0}
    task = StyleTransfer(features, content=["1_1", "2_1"], style=["1_1", "2_2"], **weights)
    state = task.setup(Spec({"image": (4, 6, 3), "role": ()}, ("content", "style", "style 2"), {}))
    images, rows = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8), torch.arange(3)
    canvas = state.modules["canvas"].picture.detach().numpy()
    pictures = ((images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(0, 3, 1, 2)

    def taps_of(picture: np.ndarray) -> dict[str, np.ndarray]:
        taps = state.modules["features"].taps(torch.from_numpy(picture[None]).float(), {"1_1", "2_1", "2_2"})
        return {name: values[0].flatten(1).numpy().astype(np.float64) for name, values in taps}

    ours, content, *styles = (taps_of(picture) for picture in (canvas[0], *pictures))
    content_errors = [((ours[name] - content[name]) ** 2).mean() for name in ("1_1", "2_1")]
    products = [{name: x @ x.T / x.size for name, x in taps.items()} for taps in (ours, *styles)]
    style_errors = [sum(((products[0][n] - other[n]) ** 2).mean() for n in ("1_1", "2_2")) for other in products[1:]]
    noise = (np.abs(np.diff(canvas, axis=2)).mean() + np.abs(np.diff(canvas, axis=3)).mean()) / 2
    batch = {"row": rows, "role": rows, "image": torch.from_numpy(images)}
    terms = {name: values.detach().numpy() for name, values in task.terms(state, batch).items()}
    assert terms["content"] == pytest.approx([2 * sum(content_errors), 0, 0], rel=1e-5)
    assert terms["style"] == pytest.approx([0, 15 * style_errors[0], 15 * style_errors[1]], rel=1e-5)
    assert terms["variation"] == pytest.approx([5 * noise, 0, 0], rel=1e-5)
    loss, metrics = task.loss(state, Shard(batch, torch.Generator(), 0))
    assert loss.item() == pytest.approx(2 * sum(content_errors) + 15 * sum(style_errors) + 5 * noise, rel=1e-5)
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {f"{name}_loss": values.sum() for name, values in terms.items()}, rel=1e-5
    )


@pytest.mark.parametrize(
    ("convolutions", "count"),
    [([1, 1, 2, 2, 2], 128_806_154), ([2, 2, 3, 3, 3], 134_300_362), ([2, 2, 4, 4, 4], 139_610_058)],
)
def test_vgg_has_the_published_number_of_parameters(convolutions: list[int], count: int) -> None:
    with torch.device("meta"):
        net = VGG(1, (224, 224), 10, convolutions=convolutions)
    assert sum(p.numel() for p in net.parameters()) == count


def test_vgg_returns_one_logit_per_class() -> None:
    net = VGG(1, (32, 32), 7, widths=[4, 4, 4, 4, 4], hidden=8)
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    with pytest.raises(Refusal, match="halve"):
        VGG(1, (16, 16), 7)


def test_taps_are_the_outputs_of_the_layers() -> None:
    body = features(3)
    x = torch.randn(1, 3, 8, 8)
    taps = dict(body.taps(x, {"1_1", "2_2"}))
    first = body.blocks[0][0](x).relu()
    assert torch.equal(taps["1_1"], first)
    second = body.blocks[1][0](F.max_pool2d(first, 2)).relu()
    assert torch.equal(taps["2_2"], body.blocks[1][1](second).relu())
    assert set(dict(body.taps(x, {"1_1"}))) == {"1_1"}


def test_weights_with_torchvisions_names_are_loaded(tmp_path: Path) -> None:
    """Load a file like a converted torchvision VGG, whose layers are features.0, features.3 and features.10."""
    source, target = features(3), features(3)
    layers = [layer for layer in source.modules() if isinstance(layer, torch.nn.Conv2d)]
    pairs = [
        (f"features.{n}.{k}", getattr(layer, k))
        for n, layer in zip((0, 3, 10), layers, strict=True)
        for k in ("weight", "bias")
    ]
    save_file({name: value.detach().clone() for name, value in pairs}, tmp_path / "vgg.safetensors")
    load_convolutions(target, tmp_path / "vgg.safetensors")
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(source(x), target(x))
    norm = {"features.1.running_mean": torch.zeros(4)}
    save_file({name: value.detach().clone() for name, value in pairs} | norm, tmp_path / "vgg_bn.safetensors")
    with pytest.raises(Refusal, match=r"vgg_bn.safetensors has batch normalisation \('features.1.running_mean'\)"):
        load_convolutions(target, tmp_path / "vgg_bn.safetensors")
    with pytest.raises(Refusal, match="does not exist"):
        load_convolutions(target, tmp_path / "other.safetensors")
    with pytest.raises(Refusal, match=r"not \[5, 3, 3, 3\]"):
        load_convolutions(Convolutions(3, [1], [5]), tmp_path / "vgg.safetensors")
    weights = {name: value.detach().clone() for name, value in pairs if name.endswith("weight")}
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(Refusal, match=r"'features.0.weight' has no bias, but the features have one"):
        load_convolutions(target, tmp_path / "weights.safetensors")


@pytest.mark.parametrize("key", ["content", "style"])
def test_a_comparison_without_taps_is_refused(key: str) -> None:
    task = StyleTransfer(features, **{"content": ["1_1"], "style": ["1_1"], key: []})
    with pytest.raises(Refusal, match=f"task.{key}: names no tap to compare; name one, such as 2_2"):
        task.setup(Spec({"image": (4, 6, 3), "role": ()}, ("content", "style"), {}))


def test_photos_are_cropped_to_their_middle() -> None:
    from PIL import Image

    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    assert crop_to_fit(Image.fromarray(picture), (10, 10)).min() == 255


def test_bad_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "text.jpg").write_text("no picture")
    for name, message in (("absent.jpg", "no such picture"), ("text.jpg", "damaged or not a picture")):
        with pytest.raises(Refusal, match=message):
            list(Photos(content=name, raw=str(tmp_path)).examples("train", 0))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("photos")
    prepare_dataset(Photos(size=[32, 48]), folder)
    return Store(folder)


def test_the_canvas_starts_as_the_content_and_moves_to_the_style(photos: Store) -> None:
    def task(rate: float) -> StyleTransfer:
        optimizer = partial(adam, lr=rate)
        return StyleTransfer(features, optimizer, content=["2_1"], style=["1_1", "2_2"], variation_weight=0.0)

    spec = Spec({"image": (32, 48, 3), "role": ()}, tuple(photos.manifest["classes"]), {})
    feed = Feed(photos.split("train"))
    first = engine.fit(task(0.001), spec, feed, feed, epochs=1, batch=2, shards=2)
    last = engine.fit(task(0.05), spec, feed, feed, epochs=40, batch=2, shards=2)
    assert last.scores["style_loss"] < first.scores["style_loss"] / 2
    assert last.scores["content_loss"] > 0
    assert task(0.05).tags(last.state, last.scores)["features"].startswith("random weights")
    _, predictions = evaluation.evaluate(task(0.05), last.state, feed)
    assert task(0.05).draw(last.state, predictions, {"image": feed.column("image")}).keys() == {"canvas"}
    canvas = first.state.modules["canvas"].picture.detach()
    content = normalised(torch.from_numpy(feed.column("image")[:1]))
    assert (canvas - content).abs().max() < 0.002, "one step of Adam at rate 0.001 moves a pixel by 0.001"


def test_a_step_without_all_pictures_is_refused(tmp_path: Path) -> None:
    """Check the refusal; otherwise the canvas would start black if the batch left out the content."""
    prepare_dataset(Photos(styles=["flower.jpg", "china.jpg"], size=[32, 48]), tmp_path)
    store = Store(tmp_path)
    spec = Spec({"image": (32, 48, 3), "role": ()}, tuple(store.manifest["classes"]), {})
    task = StyleTransfer(features, content=["2_1"], style=["1_1"])
    with pytest.raises(
        Refusal, match=r"fit.batch: 2 of 3 training rows; each step of StyleTransfer needs all: set it to all"
    ):
        engine.fit(task, spec, Feed(store.split("train")), epochs=1, batch=2, shards=2)
    engine.fit(task, spec, Feed(store.split("train")), epochs=1, batch="all", shards=2)


def test_an_exported_picture_does_not_need_the_file_of_its_features(photos: Store, tmp_path: Path) -> None:
    source = Convolutions(3)
    save_file({k: v.clone() for k, v in source.state_dict().items()}, tmp_path / "vgg.safetensors")
    section = {"use": "tasks.style_transfer.StyleTransfer", "weights": str(tmp_path / "vgg.safetensors")}
    spec = Spec({"image": (32, 48, 3), "role": ()}, tuple(photos.manifest["classes"]), {})
    task = recipe.build(section, Task)
    state = task.setup(spec)
    assert torch.equal(next(state.modules["features"].parameters()), next(source.parameters()))
    for module in state.modules.values():
        # The engine uses this memory format, and another one would round differently.
        module.to(memory_format=torch.channels_last)
    exported.write_model(tmp_path / "model", state, spec, section)
    (tmp_path / "vgg.safetensors").unlink()
    again, restored = exported.read_model(tmp_path / "model")
    batch = next(Feed(photos.split("train")).batches(2))
    with torch.no_grad():
        assert torch.equal(again.predict(restored, batch)["style"], task.predict(state, batch)["style"])
    assert task.tags(state, {})["features"] == section["weights"]
