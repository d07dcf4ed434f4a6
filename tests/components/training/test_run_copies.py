"""Copies of runs in an S3 store: a machine without any file of a run goes on where another one was lost."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from components import network, optimizers
from components.errors import Refusal
from components.models.softmax import Softmax
from components.runs import journal
from components.storage import object_store
from components.storage.feed import Feed
from components.storage.object_store import ObjectStore
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine, run_copies
from components.training.run_copies import RunCopies
from pipelines.workers.training import read_spec
from tests.object_store import KEYS, FaultyProxy, faulty_proxy, serve_objects

ADDRESS = "s3://parts/runs"
RUN = Path(".trainyard/runs/fit-0123")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serve_objects(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def store(server: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Return a place of this test's own, which TRAINYARD_RUNS names."""
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server}"}).items():
        monkeypatch.setenv(name, value)
    address = f"{ADDRESS}/{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    monkeypatch.setenv(run_copies.VARIABLE, address)
    object_store._connect.cache_clear()
    yield ObjectStore(address)
    object_store._connect.cache_clear()


@pytest.fixture
def proxy(server: int, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Put a proxy, which can fail, in front of the store."""
    with faulty_proxy(server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        object_store._connect.cache_clear()
        yield running


def train(machine: Path, digits: Path, until: int | None = None, epochs: int = 40) -> None:
    """Train on a machine whose only folder is `machine`."""
    machine.mkdir(exist_ok=True)
    os.chdir(machine)
    RUN.mkdir(parents=True, exist_ok=True)
    feed = Feed(Store(digits / "prepared").split("train"))
    task = Classification(Softmax, partial(optimizers.sgd, lr=0.1, momentum=0.9))
    spec = read_spec(str(digits / "prepared"), str(digits / "augmented"))
    fit = {"epochs": epochs, "batch": 50, "shards": 2, "log_every": 5, "checkpoint_seconds": 0.01}
    engine.fit(task, spec, feed, feed, RUN.resolve(), until=until, **fit)


def start(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    return process


def finish(*arguments: object) -> None:
    process = start(*arguments)
    process.join()
    assert process.exitcode == 0


def result(machine: Path) -> tuple[str, list[journal.Metrics]]:
    tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(machine / RUN)[0])
    digest = hashlib.sha256(b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors)))
    digest.update(str(record["step"]).encode())
    return digest.hexdigest(), journal.read_metrics(machine / RUN)


def test_another_machine_goes_on_after_one_is_lost(
    store: ObjectStore, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(tmp_path / "a", digits)
    until = time.monotonic() + 60
    while len(versions := [name for name in store.sizes(RUN.name) if name.startswith("version")]) < 2:
        assert first.is_alive()
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    first.join()
    killed = time.time() * 1000
    shutil.rmtree(tmp_path / "a")
    finish(tmp_path / "b", digits)
    times = [record.time for record in journal.read_records(tmp_path / "b" / RUN / journal.LOG)]
    assert min(times) < killed < max(times), "the new machine has the lines of the lost one, and went on"
    assert len(versions) == 2
    assert len(store.sizes(RUN.name)) == 2, "two versions are kept"
    assert len(store.sizes(f"{RUN.name}/content")) <= 2 * 3
    monkeypatch.delenv(run_copies.VARIABLE)
    finish(tmp_path / "alone", digits)
    assert result(tmp_path / "b") == result(tmp_path / "alone")


def test_a_machine_that_comes_back_goes_on_with_what_others_did(
    store: ObjectStore, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train to step 15 on machine a, to 33 on b, then to the end on a, whose own checkpoint is older."""
    finish(tmp_path / "a", digits, 15, 6)
    finish(tmp_path / "b", digits, 33, 6)
    finish(tmp_path / "a", digits, None, 6)
    steps = [metrics.step for metrics in journal.read_metrics(tmp_path / "a" / RUN)]
    assert steps == sorted(steps)
    monkeypatch.delenv(run_copies.VARIABLE)
    finish(tmp_path / "alone", digits, None, 6)
    assert result(tmp_path / "a") == result(tmp_path / "alone")


def test_a_damaged_version_falls_back_to_the_one_before(store: ObjectStore, digits: Path, tmp_path: Path) -> None:
    finish(tmp_path / "a", digits, 30, 6)
    copies = RunCopies(store.address, RUN.name)
    assert copies.newest() == 30
    older = sorted(name for name in store.sizes(RUN.name))[0]
    newest = checkpoint.list_checkpoints(tmp_path / "a" / RUN)[0] / "state.safetensors"
    digest = hashlib.sha256(newest.read_bytes()).hexdigest()
    (tmp_path / "other").write_bytes(newest.read_bytes()[:-1] + b"?")
    store.write(f"{RUN.name}/content/{digest}", tmp_path / "other")
    copies.fetch(tmp_path / "b")
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "b")] == [
        f"checkpoint-{older.removeprefix('version-').removesuffix('.json')}"
    ]


def test_a_version_that_cannot_be_read_does_not_end_the_run(store: ObjectStore, digits: Path, tmp_path: Path) -> None:
    finish(tmp_path / "a", digits, 10, 6)
    for step in (5, 7):
        store.write(f"{RUN.name}/version-0000000{step}.json", b'{"checkpoint": "check')
    copies = RunCopies(store.address, RUN.name)
    copies.send(checkpoint.list_checkpoints(tmp_path / "a" / RUN)[0], 10)
    assert "version-00000007.json" not in store.sizes(RUN.name)
    copies.fetch(tmp_path / "b")
    assert len(checkpoint.list_checkpoints(tmp_path / "b")) == 1


def test_a_store_that_is_away_delays_a_run_and_does_not_end_it(
    digits: Path, tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path / "a", digits, 10, 6)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{network.free_port()}")
    object_store._connect.cache_clear()
    monkeypatch.setattr(run_copies, "SEND_PATIENCE", 0.1)
    fault = RunCopies(store.address, RUN.name).send(checkpoint.list_checkpoints(tmp_path / "a" / RUN)[0], 10)
    assert "the checkpoint of step 10 stays on this machine alone: s3://" in fault


def test_keys_that_expire_end_no_run_and_the_user_sees_it(
    store: ObjectStore, proxy: FaultyProxy, digits: Path, tmp_path: Path
) -> None:
    process = start(tmp_path / "a", digits)
    until = time.monotonic() + 60
    while len([name for name in store.sizes(RUN.name) if name.startswith("version")]) < 2:
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.05)
    proxy.has_expired = True
    process.join()
    assert process.exitcode == 0
    step = checkpoint.read_checkpoint(checkpoint.list_checkpoints(tmp_path / "a" / RUN)[0])[1]["step"]
    lines = journal.Tail(tmp_path / "a" / RUN / journal.LOG).read_new()
    warning = [line.payload["text"] for line in lines if line.kind == journal.WARNING][-1]
    assert warning.startswith(f"the checkpoint of step {step} stays on this machine alone: {store.address}")
    assert "check the address and the keys" in warning


def test_a_store_that_never_worked_is_refused(
    store: ObjectStore, proxy: FaultyProxy, digits: Path, tmp_path: Path
) -> None:
    finish(tmp_path / "a", digits, 10, 6)
    proxy.has_expired = True
    copies = RunCopies(store.address, RUN.name)
    for call in (
        lambda: copies.send(checkpoint.list_checkpoints(tmp_path / "a" / RUN)[0], 10),
        copies.newest,
        lambda: copies.fetch(tmp_path / "b"),
    ):
        with pytest.raises(Refusal, match="check the address and the keys"):
            call()


def test_copies_that_may_not_be_read_are_not_taken_for_damaged(
    store: ObjectStore, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path / "a", digits, 10, 6)

    def deny(self: ObjectStore, *arguments: object) -> bytes:
        raise Refusal("denied")

    monkeypatch.setattr(ObjectStore, "read", deny)
    with pytest.raises(Refusal, match="denied"):
        RunCopies(store.address, RUN.name).fetch(tmp_path / "b")


def test_files_outside_the_run_are_never_written(store: ObjectStore, tmp_path: Path) -> None:
    store.write(f"{RUN.name}/version-00000001.json", b'{"checkpoint": "c", "files": {"../../evil": ["0", 1]}}')
    (tmp_path / "run" / "own").mkdir(parents=True)
    store.write(f"{RUN.name}/version-00000002.json", b'{"checkpoint": "../../own", "files": {}}')
    RunCopies(store.address, RUN.name).fetch(tmp_path / "run" / "x")
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "run" / "own").exists()
    assert not checkpoint.list_checkpoints(tmp_path / "run" / "x")


def test_an_address_that_is_not_one_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(run_copies.VARIABLE, "bucket")
    with pytest.raises(Refusal, match="TRAINYARD_RUNS: store: 'bucket' is not an address"):
        RunCopies.from_environment(RUN)
    assert RunCopies.from_environment(tmp_path / "elsewhere") is None
