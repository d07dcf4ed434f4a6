"""Test workers whose machines share no folder: forked processes, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing import ProcessRaisedException

from components.errors import Refusal, TryLater
from components.recipes import allowed
from components.runs.journal import LOG, STOP, read_records
from components.training import handover, run_copies
from components.training.handover import NotAtHome, describe_handovers, find_apart
from components.training.peers import Peers, fork_workers
from pipelines.workers.augmentation import write_augmented
from pipelines.workers.preparation import write_data_sets, write_section
from pipelines.workers.records import FitJob
from pipelines.workers.scoring import score_models
from pipelines.workers.training import fit_and_score, prepare_data, train_all, train_and_examine

TASK = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
FIT = {"epochs": 2, "batch": 50, "shards": 2}
DIGITS = {"use": "data.digits.Digits", "labels": 100, "validation": 50, "size": 8}


def enter(peers: Peers, root: Path, home: int = 1) -> Path:
    """Change to the folder of this worker's machine; the first `home` workers share that of the driver."""
    machine = root / ("driver" if peers.rank < home else f"other-{peers.rank}")
    machine.mkdir(exist_ok=True)
    os.chdir(machine)
    local = None if peers.rank < home else machine
    peers.apart = find_apart(peers, local, machine.name, root / "driver" / "mark")
    return machine


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def hand_over_data(peers: Peers, root: Path) -> None:
    enter(peers, root)
    peers.hand_over("data", "one", "nothing")
    peers.hand_over("data", "one", "nothing")


@pytest.mark.parametrize("chunk", [handover.CHUNK, 3])
def test_other_machines_get_what_they_lack_and_lose_what_rank_0_has_not(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "CHUNK", chunk)
    content = {"data/a": b"12345678", "data/deep/b": b"", "data/same": b"same", "one": b"x"}
    write(tmp_path / "driver", content | {"data/.hidden": b"h", "mark": b""})
    other = {"data/a": b"87654321", "data/same": b"same", "data/old": b"old", "nothing/x": b"y"}
    own = {"outside": b"stays", "data/.own": b"stays"}
    write(tmp_path / "other-1", other | own | {"data/.a.999999999": b"draft of a process that has ended"})
    fork_workers(hand_over_data, 3, tmp_path)
    assert read(tmp_path / "other-1") == content | own
    assert read(tmp_path / "other-2") == content
    assert describe_handovers(tmp_path / "driver" / "mark") == (
        "handed over 4 files (0.0 MB) to 2 machines without this folder"
    )


def hand_over_own_folder(peers: Peers, root: Path) -> None:
    enter(peers, root, home=2)
    assert peers.apart is None
    peers.hand_over("data")


def test_workers_that_share_a_folder_hand_nothing_over(tmp_path: Path) -> None:
    fork_workers(hand_over_own_folder, 2, tmp_path)
    assert describe_handovers(tmp_path / "driver" / "mark") is None


def expect(peers: Peers, error: type[Exception], text: str, function: Callable[[], Any]) -> None:
    """Check that every worker raises the error, so that none waits for another."""
    with pytest.raises(error, match=text):
        function()
    assert peers.gather(peers.rank) == [*range(peers.size)]


def hand_over_outside(peers: Peers, root: Path) -> None:
    enter(peers, root)
    shared = root / "elsewhere" / "weights"
    peers.hand_over(shared)  # with the same bytes on each machine
    private = root / f"elsewhere-{peers.rank}"
    text = "elsewhere-1/weights: missing or different on .*; copy it there, or move it into the folder"
    expect(peers, Refusal, text, lambda: peers.hand_over(private / "weights"))
    assert not (root / "elsewhere-1").exists()


def test_nothing_outside_the_drivers_folder_is_written(tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/weights": b"w", "elsewhere-0/weights": b"w"})
    fork_workers(hand_over_outside, 2, tmp_path)


def start_away(peers: Peers, root: Path) -> None:
    text = "driver: no worker sees this folder of the command, .* give the Ray node of this machine a CPU"
    expect(peers, NotAtHome, text, lambda: enter(peers, root, home=0))


def test_rank_0_must_see_the_drivers_folder(tmp_path: Path) -> None:
    fork_workers(start_away, 2, tmp_path)


def start_with_other_code(peers: Peers, root: Path) -> None:
    (root / f"{peers.rank}").mkdir()
    (root / f"{peers.rank}" / "mylab.py").write_text("same = 1")
    sys.path.insert(0, str(root / f"{peers.rank}"))
    allowed.PACKAGES = {"mylab"}
    enter(peers, root)
    (root / f"{peers.rank}" / "mylab.py").write_text(f"same = {peers.rank}")
    expect(
        peers, Refusal, "mylab differs from that of .*; use the same version of the code", lambda: enter(peers, root)
    )


def test_other_code_is_refused(tmp_path: Path) -> None:
    fork_workers(start_with_other_code, 2, tmp_path)


def test_a_file_that_changes_while_it_is_sent_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="changed while it was handed over"):
        handover._write_file(tmp_path / "file", iter([b"a", b"b"]), "0" * 64)
    assert not [*tmp_path.iterdir()]


def train(peers: Peers, root: Path, home: int, shards: int) -> None:
    """Prepare data and train three models, on machines of which the first `home` workers have that of the driver."""
    machine = enter(peers, root, home)
    prepare_data(peers, DIGITS, str(machine), TASK)
    section = {"task": TASK, "fit": FIT | {"shards": shards}}
    jobs = [FitJob(section, run=f"run-{seed}", out=f"model-{seed}", seed=seed) for seed in range(3)]
    train_all(peers, jobs, "prepared", "augmented")


@pytest.mark.parametrize(("workers", "home", "shards"), [(2, 1, 4), (4, 2, 4), (3, 2, 2)])
def test_all_results_are_the_drivers_and_have_the_bytes_of_one_worker(
    tmp_path: Path, workers: int, home: int, shards: int
) -> None:
    """With fewer shards than workers, only the workers that share the driver's folder train, a model at a time."""
    for name, size, at_home in (("apart", workers, home), ("alone", 1, 1)):
        (tmp_path / name).mkdir()
        fork_workers(train, size, tmp_path / name, at_home, shards)
    apart, alone = (read(tmp_path / name / "driver") for name in ("apart", "alone"))
    compared = [name for name in alone if name.startswith(("prepared/", "augmented/", "model-"))]
    assert len(compared) > 10
    assert {name: apart[name] for name in compared} == {name: alone[name] for name in compared}
    assert not [*(tmp_path / "apart").glob("other-*/run-*")], "journals and checkpoints are the driver's"


def fit_from_a_model(peers: Peers, root: Path) -> None:
    machine = enter(peers, root)
    task = TASK | {"start": "model"} if (root / "driver" / "model").is_dir() else TASK
    out = "second" if "start" in task else "model"
    result = fit_and_score(peers, DIGITS, str(machine), FitJob({"task": task, "fit": FIT}, f"run-{out}", out, 0))
    assert (result is None) == (peers.rank > 0)


def test_a_model_from_which_training_starts_is_handed_over(tmp_path: Path) -> None:
    for name, size in (("apart", 2), ("alone", 1)):
        (tmp_path / name).mkdir()
        for _ in range(2):
            fork_workers(fit_from_a_model, size, tmp_path / name)
    apart, alone = (read(tmp_path / name / "driver/second")["weights.safetensors"] for name in ("apart", "alone"))
    assert apart == alone


def run_flagship_workers(peers: Peers, root: Path) -> None:
    """Prepare, augment, train and score as the stages of the flagship do."""
    enter(peers, root)
    write_data_sets(peers, {"data/source": DIGITS, "data/target": DIGITS})
    offline = {"copies": 1, "transforms": [{"use": "augment.affine.RandomAffine", "degrees": 10}]}
    write_augmented(peers, "data", "augmented", offline, {"source": [], "target": []}, seed=0)
    job = FitJob({"task": TASK, "fit": FIT}, run="run", out="model", seed=0)
    train_and_examine(peers, job, "data/source", "augmented/source")
    (scored,) = score_models(peers, ["model"], "data/target", "test")
    if peers.rank == 0:
        (root / "driver" / "scores").write_text(f"{scored.scores}")


def test_each_stage_of_the_flagship_gets_what_it_reads(tmp_path: Path) -> None:
    for name, size in (("apart", 2), ("alone", 1)):
        (tmp_path / name).mkdir()
        fork_workers(run_flagship_workers, size, tmp_path / name)
    apart, alone = (read(tmp_path / name / "driver") for name in ("apart", "alone"))
    compared = [name for name in alone if name.startswith(("data/", "augmented/", "model/", "scores"))]
    assert "augmented/source/train-000.arrow" in compared
    assert {name: apart[name] for name in compared} == {name: alone[name] for name in compared}
    assert "augmented/source/train-000.arrow" in read(tmp_path / "apart" / "other-1")


def fit_in_runs(peers: Peers, root: Path) -> None:
    machine = enter(peers, root)
    section = {"task": TASK, "fit": FIT | {"epochs": 6, "log_every": 2, "checkpoint_seconds": 0.01}}
    run = machine / ".trainyard" / "runs" / "fit-1"
    fit_and_score(peers, DIGITS, str(machine), FitJob(section, run=str(run), out="model", seed=0))


def test_the_run_goes_on_elsewhere_after_the_drivers_machine_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRAINYARD_RUNS holds the copies; the machines that are left share no folder either."""
    monkeypatch.setenv(run_copies.VARIABLE, str(tmp_path / "store"))
    write(tmp_path, {f"first/driver/.trainyard/runs/{STOP}": b""})  # after the first checkpoint
    with pytest.raises(ProcessRaisedException, match="step 2 of 12 is saved"):
        fork_workers(fit_in_runs, 2, tmp_path / "first")
    shutil.rmtree(tmp_path / "first")
    lost_at = time.time() * 1000
    for name in ("second", "alone"):
        (tmp_path / name).mkdir()
    fork_workers(fit_in_runs, 2, tmp_path / "second")
    times = [record.time for record in read_records(tmp_path / "second/driver/.trainyard/runs/fit-1" / LOG)]
    assert min(times) < lost_at < max(times), "it began on the first machine"
    monkeypatch.delenv(run_copies.VARIABLE)
    fork_workers(fit_in_runs, 1, tmp_path / "alone")
    weights = [(tmp_path / name / "driver/model/weights.safetensors").read_bytes() for name in ("second", "alone")]
    assert weights[0] == weights[1]


def refuse_faults(peers: Peers, root: Path) -> None:
    machine = enter(peers, root)
    section = {"use": "data.text_folder.TextFolder", "folder": "texts", "conflicts": "refuse"}
    fault = "2 examples have the same content but different labels: .*texts/a/1.txt"
    expect(peers, Refusal, fault, lambda: write_section(peers, section, machine / "prepared"))
    section = section | {"conflicts": "drop"}
    assert write_section(peers, section, machine / "prepared")["train"] > 20


def test_original_files_are_needed_on_the_drivers_machine_alone(tmp_path: Path) -> None:
    texts = {f"driver/texts/{label}/{n}.txt": f"{label} text {n}".encode() for label in "ab" for n in range(20)}
    write(tmp_path, texts | {f"driver/texts/{label}/1.txt": b"the same" for label in "ab"})
    fork_workers(refuse_faults, 3, tmp_path)
