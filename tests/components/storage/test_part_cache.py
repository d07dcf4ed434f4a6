"""The cache of parts: bounded, shared by processes, checked by digest, resumed, and patient with a failing store."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from components.errors import Refusal, TryLater
from components.storage import object_store, part_cache
from components.storage.object_store import ObjectStore, check_address
from components.storage.part_cache import PartAddress, PartCache
from tests.object_store import KEYS, FaultyProxy, faulty_proxy, serve_objects

SIZE = 300_000  # bytes of a part
S3 = "s3://parts/some/prefix"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serve_objects(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    object_store._connect.cache_clear()
    with faulty_proxy(server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        yield running
    object_store._connect.cache_clear()


def store_part(address: str, number: int, folder: Path) -> PartAddress:
    """Store SIZE bytes that depend on `number` under their digest."""
    content = np.random.default_rng(number).bytes(SIZE)
    (folder / "source").write_bytes(content)
    part = PartAddress(address, hashlib.sha256(content).hexdigest(), SIZE, 1, {})
    ObjectStore(address).write(part.name, folder / "source")
    return part


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_store_keeps_what_it_was_given(kind: str, proxy: FaultyProxy, tmp_path: Path) -> None:
    store = ObjectStore(S3 if kind == "s3" else str(tmp_path / "store"))
    part = store_part(store.address, 1, tmp_path)
    assert store.size(part.name) == SIZE
    assert store.size("other") is None
    assert store.sizes()[part.name] == SIZE
    content = (tmp_path / "source").read_bytes()
    assert store.read(part.name, 100, 50) == content[100:150]
    assert store.read(part.name, SIZE - 3, 50) == content[-3:]
    with pytest.raises(Refusal, match="not in the store"):
        store.read("other", 0, 1)
    store.delete(part.name)
    store.delete(part.name)
    assert store.size(part.name) is None


@pytest.mark.parametrize(
    "address",
    [
        "bucket/prefix",
        "s4://bucket/prefix",
        "s3://",
        "s3://key:secret@bucket/x",
        "s3://b/x?endpoint_override=y",
        "",
        3,
        None,
    ],
)
def test_other_addresses_are_refused(address: object) -> None:
    with pytest.raises(Refusal, match=r"^store: "):
        check_address(address)


def test_a_bucket_that_does_not_exist_is_refused_at_once(proxy: FaultyProxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    began = time.monotonic()
    with pytest.raises(Refusal, match=r"s3://nowhere/x/name: .*(bucket|not in the store)"):
        ObjectStore("s3://nowhere/x").write("name", tmp_path / "file")
    assert time.monotonic() - began < 10


def test_the_cache_stays_below_its_limit_and_keeps_what_is_held(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    parts = [store_part(store, number, tmp_path) for number in range(8)]
    cache = PartCache(tmp_path / "cache", 3 * SIZE)
    held = cache.open(parts[0])
    assert held is not None
    for part in parts[1:]:
        cache.open(part).close()
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.*")) <= 3 * SIZE
    assert names(tmp_path / "cache") == {parts[0].name, parts[6].name, parts[7].name}, "held, and the last two"
    cache.open(parts[6]).close()
    held.close()
    cache.open(parts[0]).close()
    cache.open(parts[1]).close()
    assert names(tmp_path / "cache") == {parts[6].name, parts[0].name, parts[1].name}, "7 was used least recently"


def test_a_full_cache_of_held_parts_is_refused_after_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_cache, "ROOM_PATIENCE", 0.3)
    parts = [store_part(str(tmp_path / "store"), number, tmp_path) for number in range(3)]
    cache = PartCache(tmp_path / "cache", 2 * SIZE)
    held = [cache.open(part) for part in parts[:2]]
    assert cache.open(parts[2], wait=False) is None
    with pytest.raises(Refusal, match=r"no room .* all 0\.0006 GB are in use; raise TRAINYARD_CACHE_GB"):
        cache.open(parts[2])
    held[0].close()
    cache.open(parts[2]).close()
    with pytest.raises(Refusal, match="does not fit"):
        PartCache(tmp_path / "small", SIZE - 1).open(parts[0])


@pytest.mark.parametrize("text", ["-1", "0", "many", "inf", "nan"])
def test_a_size_that_is_not_one_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_CACHE_GB", text)
    with pytest.raises(Refusal, match="TRAINYARD_CACHE_GB"):
        PartCache.from_environment()


@pytest.mark.parametrize("fault", ["hang up", "busy", "cut", "corrupt"])
def test_faults_of_the_store_are_survived(fault: str, proxy: FaultyProxy, tmp_path: Path) -> None:
    part = store_part(S3, 11, tmp_path)
    proxy.faults = [fault, fault]
    held = PartCache(tmp_path / "cache", 10 * SIZE).open(part)
    assert held is not None
    assert hashlib.sha256(held.path.read_bytes()).hexdigest() == part.sha256
    assert not proxy.faults, "both faults happened"
    held.close()


def test_an_outage_is_waited_for_and_a_long_one_ends_the_run(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store_part(S3, 12, tmp_path)
    monkeypatch.setattr(object_store, "PATIENCE", 0.5)
    proxy.faults = ["busy"] * 1000
    with pytest.raises(TryLater, match="the store has failed for 0 s"):
        PartCache(tmp_path / "cache", 10 * SIZE).open(part)
    monkeypatch.setattr(object_store, "PATIENCE", 60.0)
    proxy.faults = ["busy"] * 12  # more than the client library repeats by itself
    PartCache(tmp_path / "cache", 10 * SIZE).open(part).close()
    assert not proxy.faults


def test_other_bytes_than_the_manifests_are_never_read(tmp_path: Path) -> None:
    part = store_part(str(tmp_path / "store"), 1, tmp_path)
    file = tmp_path / "store" / part.name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(TryLater, match="other bytes than the manifest says"):
        PartCache(tmp_path / "cache", 10 * SIZE).open(part)
    assert not names(tmp_path / "cache")


def test_a_fetch_goes_on_where_a_killed_one_stopped(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_cache, "CHUNK", SIZE // 10)
    part = store_part(S3, 13, tmp_path)
    cache = PartCache(tmp_path / "cache", 10 * SIZE)
    proxy.slow = 0.2
    process = multiprocessing.get_context("fork").Process(target=cache.open, args=(part,))
    process.start()
    draft = cache.folder / f"{part.sha256}.{SIZE}.draft"
    until = time.monotonic() + 30
    while not draft.exists() or proxy.reads < 6:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.join()
    arrived = draft.stat().st_size
    before, proxy.slow = proxy.reads, 0.0
    cache.open(part).close()
    assert arrived >= SIZE // 10
    assert proxy.reads - before <= 10 - arrived * 10 // SIZE
    assert names(cache.folder) == {part.name}


def open_all(folder: Path, parts: list[PartAddress], seed: int) -> None:
    """Open all parts twice in an order of this process, and compare their bytes."""
    cache = PartCache(folder, 5 * SIZE)
    for number in np.random.default_rng(seed).permutation(2 * len(parts)).tolist():
        part = parts[number % len(parts)]
        held = cache.open(part)
        assert held is not None
        if hashlib.sha256(held.path.read_bytes()).hexdigest() != part.sha256:
            os._exit(3)
        held.close()


def test_processes_share_a_cache(tmp_path: Path) -> None:
    parts = [store_part(str(tmp_path / "store"), number, tmp_path) for number in range(12)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_all, args=(tmp_path / "cache", parts, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        size = 0
        for path in (tmp_path / "cache").glob("*.*"):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        most = max(most, size)
        time.sleep(0.005)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 0 < most <= 5 * SIZE


def test_a_part_that_several_processes_want_is_fetched_once(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store_part(S3, 14, tmp_path)
    proxy.slow = 0.3
    before = proxy.reads
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=PartCache(tmp_path / "cache", 3 * SIZE).open, args=(part,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert proxy.reads - before == 1
    shutil.rmtree(tmp_path / "cache")
