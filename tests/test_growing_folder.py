"""A real cron daemon retrains twice on a folder of pictures that grows in between, with DVC, Ray and MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from components.data.digits import Digits
from components.runs import journal
from components.storage.store import Store
from tests.infra.manifests import fill_templates
from tests.workspace import clone

pytestmark = [pytest.mark.cluster(lane=2), pytest.mark.slow]
SMALL = {
    "data.source.per_class": 40,
    "data.target": {
        "use": "data.image_folder.ImageFolder",
        "folder": "data/raw/digits",
        "size": 16,
        "colour": False,
        "test": 0.5,
    },
    "pretrain.fit.epochs": 4,
    "tune.folds": 2,
    "tune.search.samples": 1,
    "finetune.seeds": 1,
    "finetune.fit.epochs": 4,
    "evaluate.draws": 100,
    "retrain": {"gate": {"level": 0.95}},
}
PATIENCE = 900  # seconds for one retraining on a busy machine


def add_pictures(folder: Path, first: int, last: int) -> None:
    """Write the digits of rows first..last-1 as picture files, a folder per class."""
    for row, example in enumerate(Digits(labels=1000, size=16).examples("train", 0)):
        if first <= row < last:
            file = folder / str(example["label"]) / f"{row:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(example["image"][..., 0]).save(file)


@contextmanager
def cron_schedule(daemon: str, folder: Path) -> Iterator[None]:
    """Let cron start the scheduled command in `folder` every minute until the block ends, and wait for its last run."""
    crontab = Path("/etc/cron.d") / f"trainyard-grows-{os.getpid()}"
    options = {"at": "* * * * *", "folder": str(folder), "python": sys.executable, "user": "root"}
    process = None
    try:
        crontab.write_text(fill_templates("cron", **options)["cron/trainyard"])
        crontab.chmod(0o644)
        process = subprocess.Popen([daemon, "-f"], stderr=subprocess.DEVNULL)  # ends at once if another one runs
        yield
    finally:
        crontab.unlink(missing_ok=True)
        if process is not None:
            process.terminate()
            process.wait(10)
        until = time.monotonic() + 120
        while working_processes(folder) and time.monotonic() < until:
            time.sleep(0.5)
        for remaining in working_processes(folder):
            remaining.kill()


def working_processes(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in `folder`."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                processes.append(process)
        except psutil.Error:
            continue
    return processes


def await_decision(folder: Path, number: int) -> dict[str, Any]:
    """Return the decision with this number, from 1, as soon as the ledger holds its audit."""
    until = time.monotonic() + PATIENCE
    ledger = folder / "promotions" / "ledger.log"
    while len(journal.read_records(ledger, "audited")) < number:
        log = folder / ".trainyard" / "retrain.log"
        assert time.monotonic() < until, log.read_text()[-3000:] if log.is_file() else "cron did not start it"
        time.sleep(0.5)
    return journal.read_records(ledger, "decided")[number - 1].payload


@pytest.mark.timeout(2 * PATIENCE + 300)
def test_a_schedule_promotes_and_a_growing_folder_moves_no_example(tmp_path: Path) -> None:
    daemon = shutil.which("cron")
    if daemon is None or not Path("/etc/cron.d").is_dir():
        pytest.skip("no cron on this machine (apt-get install cron)")
    if os.getuid() != 0:
        pytest.skip("only root may install a system crontab")
    yard = clone(tmp_path / "yard", {"params.yaml": SMALL}).folder
    pictures = yard / "data" / "raw" / "digits"
    add_pictures(pictures, 0, 400)
    with cron_schedule(daemon, yard):
        first = await_decision(yard, 1)
        before = {split: Store(yard / "data/prepared/target").contents(split) for split in ("train", "test")}
        add_pictures(pictures, 400, 1000)
        second = await_decision(yard, 2)
    assert first["promote"], first["reasons"]
    after = {split: Store(yard / "data/prepared/target").contents(split) for split in ("train", "test")}
    for split, digests in before.items():
        assert np.isin(digests, after[split]).all(), f"examples left the split {split}"
        assert len(after[split]) > 1.5 * len(digests)
    assert second["held_out"] == {
        "total": len(after["test"]),
        "judged": len(after["test"]),
        "trained_on": {"challenger": 0, "champion": 0},
    }
    log = (yard / ".trainyard" / "retrain.log").read_text()
    assert "prepare: changed deps: data/raw (modified)" in log
    assert f"all {len(after['test']):,} held-out examples are new to the challenger and the champion" in log
    versions = [record.payload for record in journal.read_records(yard / "promotions" / "ledger.log", "moved")]
    assert len(versions) == (2 if second["promote"] else 1)
