"""A fit writes the same bytes on any number of workers and after any interruption, on real networks."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from components.training import checkpoint, engine
from components.training.peers import Peers, fork_workers
from tests.components.training.small_fits import OPTIONS, feeds, result, run, spec, tasks


def run_sharded(peers: Peers, kind: str, digits: Path, folder: Path, until: int | None = None) -> None:
    run(peers, kind, digits, folder, until, moments="sharded")


@pytest.fixture(scope="module")
def undisturbed(digits: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a function kind -> the result of one undisturbed run in one forked process."""
    results: dict[str, tuple[str, list]] = {}

    def run_once(kind: str) -> tuple[str, list]:
        if kind not in results:
            folder = tmp_path_factory.mktemp(kind)
            fork_workers(run, 1, kind, digits, folder)
            results[kind] = result(folder)
        return results[kind]

    return run_once


@pytest.mark.parametrize("kind", ["lenet", "resnet", "bfloat16"])
def test_one_to_four_workers_write_the_same_bytes(kind: str, undisturbed, digits: Path, tmp_path: Path) -> None:
    assert len(undisturbed(kind)[1]) >= 6
    for size in (2, 3, 4):
        fork_workers(run, size, kind, digits, tmp_path / str(size))
        assert result(tmp_path / str(size)) == undisturbed(kind), f"{size} workers"


@pytest.mark.parametrize("kind", ["lenet", "resnet"])
def test_moments_sharded_over_workers_give_the_same_bytes(kind: str, undisturbed, digits: Path, tmp_path: Path) -> None:
    """Any number of workers goes on from the checkpoint of any other, sharded or not."""
    fork_workers(run_sharded, 2, kind, digits, tmp_path / "whole")
    assert result(tmp_path / "whole") == undisturbed(kind)
    for size, fit, stop in [(3, run_sharded, 3), (1, run, 8), (2, run_sharded, None)]:
        fork_workers(fit, size, kind, digits, tmp_path / "parts", stop)
    assert result(tmp_path / "parts") == undisturbed(kind)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("stops", [(1, 13), (5, 8)])
def test_a_run_stopped_twice_ends_with_the_same_bytes(
    kind: str, stops: tuple, undisturbed, digits: Path, tmp_path: Path
) -> None:
    """The number of workers may change with each start."""
    for worker, stop in enumerate(stops):
        fork_workers(run, 1 + worker, kind, digits, tmp_path, stop)
    fork_workers(run, 1, kind, digits, tmp_path)
    assert result(tmp_path) == undisturbed(kind)


@pytest.mark.parametrize("kind", ["lenet", "patient"])
def test_a_run_stopped_before_every_step_ends_with_the_same_bytes(
    kind: str, undisturbed, digits: Path, tmp_path: Path
) -> None:
    steps = max(metrics.step for metrics in undisturbed(kind)[1])
    for stop in range(steps + 1):
        run(Peers(), kind, digits, tmp_path, stop)
    run(Peers(), kind, digits, tmp_path)
    assert result(tmp_path) == undisturbed(kind)


@pytest.mark.parametrize("kind", ["resnet", "patient"])
def test_a_finished_run_is_not_run_again(kind: str, digits: Path, tmp_path: Path) -> None:
    """This holds for runs that stopped early, too."""
    run(Peers(), kind, digits, tmp_path)
    before, newest = result(tmp_path), checkpoint.list_checkpoints(tmp_path)[0].stat().st_mtime_ns
    run(Peers(), kind, digits, tmp_path)
    assert result(tmp_path) == before
    assert checkpoint.list_checkpoints(tmp_path)[0].stat().st_mtime_ns == newest


def test_logging_the_noise_scale_changes_no_byte(undisturbed, digits: Path, tmp_path: Path, monkeypatch) -> None:
    digest, metrics = undisturbed("resnet")
    monkeypatch.setitem(OPTIONS, "resnet", {**OPTIONS["resnet"], "noise_scale": False})
    fork_workers(run, 1, "resnet", digits, tmp_path)
    others = deepcopy(metrics)
    scales = [m.values.pop("train/noise_scale") for m in others if "train/noise_scale" in m.values]
    assert result(tmp_path) == (digest, others)
    assert len(scales) >= 3
    assert min(scales) > 0


def test_another_seed_gives_other_bytes(digits: Path, tmp_path: Path) -> None:
    """The comparisons above are able to fail."""
    train, test = feeds(digits)
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        engine.fit(tasks("resnet"), spec(digits), train, test, tmp_path / str(seed), seed=seed, epochs=1, batch=100)
    assert result(tmp_path / "0")[0] != result(tmp_path / "1")[0]


def test_a_damaged_checkpoint_falls_back_and_ends_the_same(undisturbed, digits: Path, tmp_path: Path, caplog) -> None:
    run(Peers(), "lenet", digits, tmp_path, until=7)
    newest = checkpoint.list_checkpoints(tmp_path)[0] / "state.safetensors"
    blob = bytearray(newest.read_bytes())
    blob[len(blob) // 2] ^= 1
    newest.write_bytes(blob)
    run(Peers(), "lenet", digits, tmp_path)
    assert "damaged" in caplog.text
    assert result(tmp_path) == undisturbed("lenet")
