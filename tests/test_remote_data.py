"""Training from an object store: the same bytes as from local files, on any number of workers, in bounded space."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from components import optimizers, schedules
from components.errors import Refusal
from components.models.mlp import MLP
from components.storage import object_store, remote_part
from components.storage.feed import Feed
from components.storage.store import Column, Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine
from components.training.peers import Peers, fork_workers
from pipelines.workers import augmentation, preparation
from pipelines.workers.training import read_spec
from tests.object_store import KEYS, FaultyProxy, faulty_proxy, serve_objects

PARTS = 40
FIT: dict[str, Any] = {"epochs": 2, "batch": 32, "shards": 4, "log_every": 5, "checkpoint_seconds": 0.01}


class SortedDigits:
    """Handwritten digits, all zeros first, then all ones, in PARTS parts; a fifth of them for testing."""

    name, licence, source = "sorted digits", "CC BY 4.0", "scikit-learn"
    classes: ClassVar = [str(digit) for digit in range(10)]
    columns: ClassVar = {"image": Column("uint8", (8, 8, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {"train": PARTS, "test": 2}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        pixels, labels = load_digits(return_X_y=True)
        images = (pixels.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
        rows = np.random.default_rng(0).permutation(len(labels))
        rows = rows[:360] if split == "test" else rows[360:]
        rows = rows[np.argsort(labels[rows], kind="stable")]
        for row in np.array_split(rows, self.parts()[split])[part].tolist():
            yield {"image": images[row], "label": int(labels[row])}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serve_objects(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def proxy(server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the S3 server; the cache is empty and holds the parts of two workers' windows."""
    with faulty_proxy(server) as running:
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": running.address}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "cache"))
        forget_connections()
        yield running
        forget_connections()


def forget_connections() -> None:
    object_store._connect.cache_clear()
    remote_part._open_parts.cache_clear()


def prepare(peers: Peers, folder: Path, store: str | None) -> None:
    preparation.write_data_set(peers, SortedDigits(), folder / "prepared", store)
    peers.gather(None)
    augmentation.write_statistics(peers, Store(folder / "prepared"), folder / "augmented")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    prepare(Peers(), folder, None)
    return folder


def train(peers: Peers, data: Path, folder: Path, until: int | None = None, **options: Any) -> engine.Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(data / "prepared")
    task = Classification(MLP, partial(optimizers.sgd, lr=0.1, momentum=0.9))
    spec = read_spec(str(data / "prepared"), str(data / "augmented"))
    feeds = Feed(store.split("train")), Feed(store.split("test"))
    options = FIT | {"schedule": partial(schedules.cosine, warmup=0.1)} | options
    return engine.fit(task, spec, *feeds, folder, peers, until=until, **options)


def train_windows(peers: Peers, data: Path, folder: Path, until: int | None = None) -> None:
    train(peers, data, folder, until, window=3)


def weights_digest(folder: Path) -> str:
    tensors, _ = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
    return hashlib.sha256(
        b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
    ).hexdigest()


def part_bytes(data: Path) -> list[int]:
    return [part["bytes"] for split in Store(data / "prepared").manifest["splits"].values() for part in split["parts"]]


def test_parts_go_to_the_store_and_the_manifest_stays(proxy: FaultyProxy, local: Path, tmp_path: Path) -> None:
    fork_workers(prepare, 2, tmp_path, "s3://parts/two-workers")
    files = sorted(path.name for path in (tmp_path / "prepared").iterdir())
    assert files == ["manifest.json", "test-contents.npy", "train-contents.npy"]
    remote, here = Store(tmp_path / "prepared"), Store(local / "prepared")
    assert remote.manifest == here.manifest | {"store": "s3://parts/two-workers"}
    assert (tmp_path / "augmented/statistics.json").read_bytes() == (local / "augmented/statistics.json").read_bytes()
    remote.verify()
    rows = np.array([5, 1400, 700, 5])
    expected, values = here.split("train").take(rows), remote.split("train").take(rows)
    assert all(np.array_equal(values[name], expected[name]) for name in expected)
    assert np.array_equal(remote.split("test").array("label"), here.split("test").array("label"))
    lost = remote._part_addresses("train")[7]
    object_store.ObjectStore(lost.store).delete(lost.name)
    with pytest.raises(Refusal, match=rf"{lost.name}: is missing; prepare the data again"):
        remote.verify()


def test_neither_the_store_nor_workers_nor_faults_change_the_bytes(
    proxy: FaultyProxy, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train from local files, then from a failing store into a small cache, stopped twice, on 2, 1 and 4 workers."""
    train_windows(Peers(), local, tmp_path / "undisturbed")
    fork_workers(prepare, 1, tmp_path, "s3://parts/faults")
    monkeypatch.setenv("TRAINYARD_CACHE_GB", str(32 * max(part_bytes(local)) / 1e9))
    steps = 2 * (1437 // 32)
    for workers, until in ((2, steps // 3), (1, 2 * steps // 3), (4, None)):
        shutil.rmtree(tmp_path / "cache")
        proxy.faults = ["hang up", "corrupt", "busy", "cut", "corrupt"]
        fork_workers(train_windows, workers, tmp_path, tmp_path / "run", until)
        assert not proxy.faults
    assert weights_digest(tmp_path / "run") == weights_digest(tmp_path / "undisturbed")
    train(Peers(), local, tmp_path / "other", window=4)
    assert weights_digest(tmp_path / "other") != weights_digest(tmp_path / "undisturbed"), "the comparison can fail"


def test_a_cache_that_is_too_small_is_refused_before_the_first_step(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(Peers(), tmp_path, "s3://parts/faults")
    monkeypatch.setenv("TRAINYARD_CACHE_GB", "1e-5")
    forget_connections()
    with pytest.raises(
        Refusal, match=r"TRAINYARD_CACHE_GB: 1e-05 GB, but this fit opens 24 parts of .*lower fit.window"
    ):
        Feed(Store(tmp_path / "prepared").split("train")).walk(32, 0, 4, range(4), window=3)


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
def test_every_order_reads_the_rows_of_local_files(order: str, proxy: FaultyProxy, local: Path, tmp_path: Path) -> None:
    prepare(Peers(), tmp_path, "s3://parts/faults")
    forget_connections()
    options = {
        "batch": 24,
        "seed": 1,
        "shards": 2,
        "own_shards": range(2),
        "sequential": order == "sequential",
        "window": 5,
    }
    walks = [Feed(Store(folder / "prepared").split("train")).walk(**options) for folder in (tmp_path, local)]
    for step in range(walks[0].steps_per_epoch):
        remote, here = (walk.at(step)[0] for walk in walks)
        assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(remote, here, strict=True))


def cache_bytes() -> int:
    """Return the size of the cache, in which files come and go."""
    size = 0
    for file in Path(os.environ["TRAINYARD_CACHE"]).glob("*.*"):
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def walk_far(peers: Peers, data: Path, report: Path) -> None:
    """Walk through an epoch; write by how much memory grows after a tenth of it, and the greatest cache, in bytes."""
    feed = Feed(Store(data / "prepared").split("train"))
    walk = feed.walk(64, 0, 1, range(1), window=2)
    for step in range(walk.steps_per_epoch // 10):
        walk.at(step)
    before = psutil.Process().memory_info().rss
    memory = cache = 0
    for step in range(walk.steps_per_epoch // 10, walk.steps_per_epoch):
        walk.at(step)
        memory = max(memory, psutil.Process().memory_info().rss - before)
        cache = max(cache, cache_bytes())
    report.write_text(f"{memory} {cache}")


class Noise(SortedDigits):
    """160 parts of 256 random pictures, 1 MB each."""

    def parts(self) -> dict[str, int]:
        return {"train": 160}

    columns: ClassVar = {"image": Column("uint8", (64, 64, 1)), "label": Column("int64")}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for picture in np.random.default_rng(part).integers(0, 256, (256, 64, 64, 1), dtype=np.uint8):
            yield {"image": picture, "label": 0}


def test_memory_and_cache_are_bounded_when_the_data_are_twenty_times_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is the store: 168 MB of data, 8.4 MB of cache."""
    monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRAINYARD_CACHE_GB", "0.0084")
    forget_connections()
    preparation.write_data_set(Peers(), Noise(), tmp_path / "prepared", str(tmp_path / "store"))
    sizes = part_bytes(tmp_path)
    assert sum(sizes) >= 20 * 8.4e6
    fork_workers(walk_far, 1, tmp_path, tmp_path / "report")
    memory, cache = map(int, (tmp_path / "report").read_text().split())
    assert 2 * max(sizes) < cache <= 8.4e6
    assert memory < 20e6, "a few parts are mapped, not all"
    forget_connections()


def test_sorted_data_train_as_well_as_shuffled_ones(local: Path, tmp_path: Path) -> None:
    """Two shards with windows of 16 of 40 parts, over seeds; one part at a time is worse, so the test can fail."""

    def losses(**options: Any) -> np.ndarray:
        name = str(options)
        fits = [train(Peers(), local, tmp_path / name / str(seed), seed=seed, **options) for seed in range(6)]
        return np.array([fit.scores["loss"] for fit in fits])

    options = {"epochs": 6, "evaluate_every": 6, "checkpoint_seconds": 1e9}
    shuffled = losses(shards=2, **options)
    windows = losses(shards=2, window=16, **options)
    error = np.hypot(shuffled.std(ddof=1), windows.std(ddof=1)) / np.sqrt(len(windows))
    assert windows.mean() < shuffled.mean() + 2 * error
    assert losses(shards=1, window=1, **options).mean() > 3 * shuffled.mean()
