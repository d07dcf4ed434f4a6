"""Check sampling by overlap, SVMs and regression against scikit-learn, and detection from end to end."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch.nn import functional as F
from torchvision import ops
from torchvision.models import resnet18

from components.data.proposals import SelectiveSearch
from components.data.scenes import Scenes
from components.layers.boxes import decode_offsets, encode_offsets
from components.models.proposal_cnn import ProposalCNN
from components.models.resnet import ResNet
from components.recipes import recipe
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.moments import compute_moments
from components.storage.store import Store
from components.tasks.classification import Classification
from components.tasks.rcnn import RCNN
from components.training import engine, evaluation, exported
from components.training.task import Shard, Spec, State, Task

MODEL = {"use": "models.proposal_cnn.ProposalCNN", "widths": [8, 16, 16], "features": 32}
SECTION = {"use": "tasks.rcnn.RCNN", "model": MODEL, "optimizer": {"use": "optimizers.adamw", "lr": 5e-3}, "most": 10}
SPEC = Spec({"image": (64, 64, 1)}, tuple("0123456789"), {"mean": [0.3], "std": [0.2]})


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Feed, Feed]:
    folder = tmp_path_factory.mktemp("scenes")
    manifest = prepare_dataset(SelectiveSearch(partial(Scenes, count=120, test=30)), folder)
    store = Store(folder)
    columns = {name: tuple(column["shape"]) for name, column in manifest["columns"].items()}
    spec = Spec(columns, tuple(manifest["classes"]), compute_moments(store.split("train"), 0, 1).finish())
    return spec, Feed(store.split("train")), Feed(store.split("test"))


@pytest.fixture(scope="module")
def fitted(feeds: tuple[Spec, Feed, Feed]) -> tuple[RCNN, State]:
    spec, train, _ = feeds
    task = recipe.build(SECTION, Task)
    return task, engine.fit(task, spec, train, epochs=10, batch=12, shards=2).state


def batch_of(feed: Feed, rows: int) -> dict[str, Any]:
    return next(feed.batches(rows))


def task_of(**arguments: Any) -> tuple[RCNN, State]:
    torch.manual_seed(0)
    task = RCNN(partial(ProposalCNN, widths=[4, 8, 8], features=12), **arguments)
    return task, task.setup(SPEC)


def test_regions_are_sampled_by_overlap() -> None:
    task, _ = task_of(samples=8, foreground=0.5)
    true, labels = torch.tensor([[0.0, 0, 10, 10], [30, 30, 50, 50]]), torch.tensor([3, 7])
    # The hits have an IoU of 0.83 and 0.9, the misses of 0.49 and 0.
    hits = true.repeat(5, 1) + torch.tensor([0.0, 0, 1, 1])
    misses = torch.tensor([[0.0, 0, 10, 4.9], [60, 0, 64, 9]]).repeat(10, 1)
    regions = torch.cat([true, hits, misses])
    counts = []
    for seed in range(20):
        boxes, sampled = task._sample_regions(regions, true, labels, torch.Generator().manual_seed(seed))
        assert len(boxes) == 8
        best = ops.box_iou(boxes, true).max(1)
        assert torch.equal(sampled, torch.where(best.values >= 0.5, labels[best.indices], 10))
        counts.append((sampled < 10).sum().item())
        assert len({tuple(box) for box in boxes[sampled < 10].tolist()}) > 1
    assert counts == [4] * 20
    boxes, sampled = task._sample_regions(regions[:3], true, labels, torch.Generator())
    assert sampled.tolist().count(10) == 0
    empty = task._sample_regions(misses, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.Generator())
    assert empty[1].tolist() == [10] * 8


def test_the_loss_covers_the_sampled_crops(feeds: tuple[Spec, Feed, Feed]) -> None:
    task, state = task_of(samples=6)
    batch = batch_of(feeds[1], 5)
    shards = [Shard(batch, torch.Generator().manual_seed(seed), 0) for seed in (1, 1, 2)]
    (loss, metrics), (again, _), (other, _) = (task.loss(state, shard) for shard in shards)
    assert loss == again != other
    generator = torch.Generator().manual_seed(1)
    samples = [task._sample_regions(*regions, generator) for regions in task._regions(batch)]
    labels = torch.cat([picture_labels for _, picture_labels in samples])
    logits = state.modules["net"](task._crop(batch, [boxes for boxes, _ in samples]))
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))
    assert metrics["accuracy"] == (logits.argmax(1) == labels).float().mean()
    assert 0 < (labels < 10).float().mean() <= 0.5


def test_pictures_without_regions_have_no_gradient() -> None:
    """Check for nan, which one shard would spread to the average of all."""
    task, state = task_of()
    empty = {"boxes": [np.zeros((0, 4), np.float32)] * 2, "proposals": [np.zeros((0, 4), np.float32)] * 2}
    batch = empty | {"image": torch.zeros(2, 64, 64, 1, dtype=torch.uint8), "labels": [np.zeros(0, np.int64)] * 2}
    loss, metrics = task.loss(state, Shard(batch, torch.Generator(), 0))
    loss.backward()
    assert loss.item() == metrics["accuracy"].item() == 0
    assert all((p.grad == 0).all() for p in state.modules["net"].parameters())


def region_examples(seed: int) -> dict[str, np.ndarray]:
    """Return random examples for `finish`, of 3 of 10 classes."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 3, 400)
    features = (random.normal(size=(400, 12)) + 2 * np.eye(12)[kind]).astype(np.float32)
    overlaps = np.zeros((400, 10), np.float32)
    overlaps[np.arange(400), kind] = np.where(random.random(400) < 0.4, 1, random.uniform(0, 0.9, 400))
    maps = random.normal(size=(120, 8)).astype(np.float32)
    offsets = (maps @ random.normal(size=(8, 4)) + random.normal(size=(120, 4)) + 3).astype(np.float32)
    labels = random.integers(0, 3, 120)
    return {"features": features, "overlaps": overlaps, "maps": maps, "offsets": offsets, "labels": labels}


def test_svms_and_box_regression_equal_scikit_learns() -> None:
    task, state = task_of(svm=0.5, ridge=7.0, negative=0.3)
    parts = [region_examples(0), region_examples(1)]
    task.finish(state, lambda function: parts)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert {name: (table.dtype.name, table.shape) for name, table in state.tables.items()} == {
        "svm_weight": ("float32", (10, 12)),
        "svm_bias": ("float32", (10,)),
        "box_weight": ("float32", (10, 8 + 1, 4)),
    }
    scaled = (joined["features"] - joined["features"].mean(0)) / joined["features"].std(0)
    margins = joined["features"] @ state.tables["svm_weight"].T + state.tables["svm_bias"]
    for label in range(3):
        overlap, own = joined["overlaps"][:, label], joined["labels"] == label
        rows = (overlap == 1) | (overlap < 0.3)
        machine = LinearSVC(C=0.5, dual=False).fit(scaled[rows], overlap[rows] == 1)
        np.testing.assert_allclose(margins[:, label], machine.decision_function(scaled), atol=2e-3)
        line = Ridge(alpha=7.0).fit(joined["maps"][own], joined["offsets"][own])
        weight = state.tables["box_weight"][label]
        np.testing.assert_allclose(joined["maps"] @ weight[:-1] + weight[-1], line.predict(joined["maps"]), atol=1e-3)
    assert (margins[:, 3:] == -1).all()
    assert (state.tables["box_weight"][3:] == 0).all()


def test_regions_are_described_by_their_objects(feeds: tuple[Spec, Feed, Feed]) -> None:
    """Check the overlap per class, and the offsets of all proposals (not true boxes) with an IoU above 0.6."""
    task, state = task_of()
    batch = batch_of(feeds[1], 6)
    with torch.no_grad():
        described = task._describe_regions(state.modules["net"].eval(), batch)
    place, near = 0, 0
    for boxes, proposals, labels in zip(batch["boxes"], batch["proposals"], batch["labels"], strict=True):
        true, regions = torch.from_numpy(boxes), torch.from_numpy(np.concatenate([boxes, proposals]))
        overlap = ops.box_iou(regions, true).numpy()
        for label in range(10):
            own = labels == label
            expected = overlap[:, own].max(1) if own.any() else np.zeros(len(regions))
            rows = slice(place, place + len(regions))
            np.testing.assert_allclose(described["overlaps"][rows, label], expected, atol=1e-6)
        for row in len(boxes) + np.flatnonzero(overlap[len(boxes) :].max(1) > 0.6):
            best = overlap[row].argmax()
            assert described["labels"][near] == labels[best]
            moved = decode_offsets(torch.from_numpy(described["offsets"][near]), regions[row])
            torch.testing.assert_close(moved, true[best], rtol=1e-4, atol=1e-3)
            near += 1
        place += len(regions)
    assert place == len(described["features"])
    assert near == len(described["labels"]) == len(described["maps"])


def test_objects_are_detected_and_regression_improves_the_boxes(
    feeds: tuple[Spec, Feed, Feed], fitted: tuple[RCNN, State]
) -> None:
    scores, predictions = evaluation.evaluate(*fitted, feeds[2])
    assert scores.keys() == {"map", "map50", "map_unregressed", "map50_unregressed"}
    assert scores["map50"] > 0.6
    assert scores["map"] > scores["map_unregressed"] + 0.03
    assert predictions["boxes"].shape == predictions["raw_boxes"].shape == (30, 10, 4)
    assert ((predictions["labels"] >= -1) & (predictions["labels"] < 10)).all()
    assert (predictions["scores"][predictions["labels"] < 0] == 0).all()
    assert (np.diff(predictions["scores"], axis=1) <= 0).all()
    for boxes, proposals in zip(predictions["raw_boxes"], feeds[2].column("proposals"), strict=True):
        assert {tuple(box) for box in boxes.tolist()} <= {tuple(box) for box in proposals.tolist()}
    for boxes, labels in zip(predictions["boxes"], predictions["labels"], strict=True):
        within = torch.from_numpy(labels[:, None] == labels)
        overlap = ops.box_iou(*[torch.from_numpy(boxes)] * 2)
        assert overlap[within & ~torch.eye(10, dtype=torch.bool)].max() <= 0.3 + 1e-6


def test_the_networks_head_scores_before_finish(feeds: tuple[Spec, Feed, Feed], fitted: tuple[RCNN, State]) -> None:
    task, state = fitted
    scores, predictions = evaluation.evaluate(task, State(state.modules), feeds[2])
    assert scores["map"] == scores["map_unregressed"] > 0.2
    assert np.array_equal(predictions["boxes"], predictions["raw_boxes"])
    with torch.no_grad():
        batch = batch_of(feeds[2], 1)
        crops = task._crop(batch, task._proposals(batch))
        highest = state.modules["net"](crops).softmax(1)[:, :-1].max()
    assert predictions["scores"][0, 0] == pytest.approx(highest.item(), abs=1e-5)


def test_a_served_model_needs_pictures_only(
    feeds: tuple[Spec, Feed, Feed], fitted: tuple[RCNN, State], tmp_path: Path
) -> None:
    exported.write_model(tmp_path, fitted[1], feeds[0], SECTION)
    task, state = exported.read_model(tmp_path)
    batch = batch_of(feeds[2], 4)
    with torch.no_grad():
        stored = task.predict(state, batch)
        searched = task.predict(state, {"image": batch["image"]})
        original = fitted[0].predict(fitted[1], batch)
    for name, values in stored.items():
        assert torch.equal(values, searched[name]), name
        assert torch.equal(values, original[name]), name


def test_finish_uses_moving_averages(feeds: tuple[Spec, Feed, Feed]) -> None:
    """Check that `finish` uses the averages, which are exported in place of the modules."""
    task, state = task_of()
    average = ProposalCNN(1, (24, 24), 11, widths=[4, 8, 8], features=12)
    torch.manual_seed(9)
    tables = []
    for modules, averages in (({"net": average}, {}), (state.modules, {"net": average})):
        state = State(modules, averages)
        task.finish(state, lambda function: [function(batch_of(feeds[1], 20))])
        tables.append(state.tables)
    assert all(np.array_equal(tables[0][name], tables[1][name]) for name in tables[0])


def test_a_picture_without_proposals_has_no_detections() -> None:
    task, state = task_of()
    state.modules["net"].eval()
    image = torch.zeros(2, 64, 64, 1, dtype=torch.uint8)
    detections = task.predict(state, {"image": image})
    assert (detections["labels"] == -1).all()
    assert detections["boxes"].shape == (2, 20, 4)
    proposals = [np.zeros((0, 4), np.float32), np.array([[3, 3, 20, 30]], np.float32)]
    detections = task.predict(state, {"image": image, "proposals": proposals})
    assert (detections["labels"][0] == -1).all()
    assert (detections["labels"][1] >= 0).sum() == 10, "one box is a detection of every class"


def test_the_extractor_starts_from_other_weights(tmp_path: Path) -> None:
    """Check a torchvision file for a backbone, and the export of a classifier of the same network."""
    original = resnet18(num_classes=5)
    save_file(original.state_dict(), tmp_path / "resnet18.safetensors")
    model = partial(ProposalCNN, features=8, backbone=ResNet)
    spec = Spec({"image": (64, 64, 3)}, SPEC.classes, {"mean": [0.3] * 3, "std": [0.2] * 3})
    task = RCNN(model, start=str(tmp_path / "resnet18.safetensors"), side=32)
    net = task.setup(spec).modules["net"]
    assert torch.equal(net.get_submodule("body.0.stem.0").weight, original.conv1.weight)
    assert "from resnet18.safetensors" in task.tags(State({"net": net}), {})["start"]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 11)
    small = partial(ProposalCNN, widths=[4, 8, 8], features=12)
    classifier = Classification(small).setup(Spec({"image": (24, 24, 1)}, ("a", "b"), SPEC.statistics))
    exported.write_model(tmp_path / "classifier", classifier, SPEC, {"use": "x"})
    _, state = task_of(start=str(tmp_path / "classifier"))
    source, target = classifier.modules["net"].state_dict(), state.modules["net"].state_dict()
    names = [name for name in source if not name.startswith("head.")]
    assert all(torch.equal(source[name], target[name]) for name in names)


def test_pictures_of_any_size_get_boxes_in_their_own_pixels(fitted: tuple[RCNN, State]) -> None:
    task, state = fitted
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 90, 200, 1), dtype=np.uint8))
    with torch.no_grad():
        detections = task.predict(state, {"image": image})
    assert (detections["boxes"] <= torch.tensor([200, 90, 200, 90])).all()
    assert detections["boxes"].max() > 64


def test_many_regions_are_processed_in_pieces(
    feeds: tuple[Spec, Feed, Feed], fitted: tuple[RCNN, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(feeds[2], 6)
    with torch.no_grad():
        together = fitted[0].predict(fitted[1], batch)
        monkeypatch.setattr("components.tasks.rcnn.AT_ONCE", 1)
        pieces = fitted[0].predict(fitted[1], batch)
    assert all(torch.allclose(together[name].float(), pieces[name].float(), atol=1e-3) for name in together)


def test_confident_detections_are_drawn(feeds: tuple[Spec, Feed, Feed], fitted: tuple[RCNN, State]) -> None:
    task, state = fitted
    _, predictions = evaluation.evaluate(task, state, feeds[2])
    figure = task.draw(state, predictions, evaluation.target_columns(task, feeds[2]))["detections"]
    assert len(figure.axes) == 12
    names = [text.get_text() for text in figure.axes[0].texts]
    confident = predictions["scores"][0] >= 0.5
    labels, scores = predictions["labels"][0][confident], predictions["scores"][0][confident]
    assert names == [f"{label} {score:.2f}" for label, score in zip(labels, scores, strict=True)]


def test_offsets_lead_from_proposals_to_objects() -> None:
    """Check that `finish` and `predict` use the same direction of offsets."""
    task, state = task_of()
    proposal, true = torch.tensor([[10.0, 10, 30, 40]]), torch.tensor([[12.0, 8, 34, 42]])
    state.tables = {
        "box_weight": np.zeros((10, 8 * 9 + 1, 4), np.float32),
        "svm_weight": np.zeros((10, 12), np.float32),
        "svm_bias": np.zeros(10, np.float32),
    }
    state.tables["box_weight"][:, -1] = encode_offsets(true, proposal).numpy()
    state.modules["net"].eval()
    batch = {"image": torch.zeros(1, 64, 64, 1, dtype=torch.uint8), "proposals": [proposal.numpy()]}
    detections = task.predict(state, batch)
    torch.testing.assert_close(detections["boxes"][0, 0], true[0])
    torch.testing.assert_close(detections["raw_boxes"][0, 0], proposal[0])


def test_proposals_in_a_crowd_are_not_background() -> None:
    """Check that only proposals that show an object, or lie outside the crowds, are taken."""
    task, _ = task_of()
    batch: dict[str, Any] = {
        "image": torch.zeros(1, 64, 64, 1, dtype=torch.uint8),
        "boxes": [np.array([[0, 0, 10, 10]], np.float32)],
        "labels": [np.array([3])],
        "proposals": [np.array([[0, 0, 10, 11], [30, 30, 40, 40], [0, 40, 10, 50]], np.float32)],
    }
    true, near, crowded, far = [0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 40, 40], [0, 40, 10, 50]
    for crowd, expected in (
        ([], [true, near, crowded, far]),
        ([[28, 28, 60, 60]], [true, near, far]),
        ([[35.5, 28, 60, 60]], [true, near, crowded, far]),
        ([[0, 0, 64, 64]], [true, near]),
    ):
        columns = batch | {"crowd": [np.array(crowd, np.float32).reshape(-1, 4)]}
        assert task._regions(columns)[0][0].tolist() == expected
    assert task._regions(batch)[0][0].tolist() == [true, near, crowded, far]
