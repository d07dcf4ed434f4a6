"""The doctor, run for real in a process of its own, in circumstances that are right and in some that are not."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.network import free_port
from components.originals import inventory
from pipelines.commands import machine
from tests.pipelines.conftest import ROOT

SMI = """\
#!/bin/sh
if [ "$1" = "-L" ]; then echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8d1c)"; exit; fi
echo "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: %s     |"
"""


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing is wrong, the current one of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{_only('git', tmp_path / 'bin')}")
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    return tmp_path


def _only(name: str, folder: Path) -> Path:
    folder.mkdir()
    found = shutil.which(name)
    assert found
    (folder / name).symlink_to(found)
    return folder


def consult(code: int, *recipe: str, **environment: str) -> list[str]:
    """The doctor's lines; its exit code must be `code`."""
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "doctor", *recipe],
        env=everything,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "note  ", "BAD   ")) for line in lines)
    return [line for line in lines if "of memory free" not in line]  # which other tests may have taken


def only(lines: list[str], state: str) -> str:
    """The one line in this state, without the word."""
    (line,) = [line for line in lines if line.startswith(state)]
    return line.removeprefix(state).strip()


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_where_nothing_is_wrong_it_says_so(clinic: Path) -> None:
    lines = consult(0)
    assert not [line for line in lines if line.startswith("BAD")]
    said = "\n".join(lines)
    for word in (
        "python 3.",
        "torch 2.",
        "dvc 3.",
        "as locked",
        "GiB of disk",
        "mlflow.db",
        "Ray: ",
        "no GPU",
        "DVC is",
    ):
        assert word in said


def test_it_answers_at_once_and_imports_nothing_heavy(clinic: Path) -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    consult(0)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 1.0
    code = (
        "import sys; from pipelines.commands import doctor; doctor.main(); "
        "assert not {'torch', 'numpy', 'ray', 'mlflow', 'dvc', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------ the repository


def test_outside_a_repository(clinic: Path) -> None:
    shutil.rmtree(".dvc")
    assert ".dvc: no such folder; run trainyard in the root" in only(consult(1), "BAD")
    Path(".dvc").mkdir()
    Path(".git").rmdir()
    assert "dvc needs a git repository here; git init" in only(consult(1), "BAD")


def test_without_git(clinic: Path) -> None:
    assert "git is missing" in only(consult(1, PATH=""), "BAD")


def test_without_the_page_for_dvcs_plots(clinic: Path) -> None:
    Path(".dvc/config").write_text("[plots]\n    html_template = plots.html\n")
    assert "trainyard report" in only(consult(0), "note")
    Path(".dvc/plots.html").touch()
    assert "note" not in "".join(consult(0))


def test_locks_of_the_living_the_dead_and_the_damaged(clinic: Path) -> None:
    lock = Path(".dvc/tmp/rwlock")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock.write_text(json.dumps({"write": {"/x": {"pid": ended.pid, "cmd": "dvc repro"}}, "read": {}}))
    assert "gone" in only(consult(0), "note")
    lock.write_text(json.dumps({"write": {}, "read": {"/x": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}))
    assert f"process {os.getpid()}" in only(consult(0), "note")
    lock.write_text('{"write": ')
    assert only(consult(1), "BAD") == ".dvc/tmp/rwlock is damaged: rm .dvc/tmp/rwlock"
    lock.write_text('{"write": {}, "read": {}}')
    index = Path(".git/index.lock")
    index.parent.mkdir(exist_ok=True)
    index.touch()
    consult(0)  # a git command may be at work
    os.utime(index, (time.time() - 120,) * 2)
    assert only(consult(1), "BAD") == ".git/index.lock is left from a killed git: rm .git/index.lock"


# ------------------------------------------------------------------------------------------------ the environment


def test_packages_that_differ_from_the_lock_file(clinic: Path) -> None:
    lock = Path("requirements.lock")
    text = re.sub(r"^mlflow==\S+", "mlflow==9.9.9", lock.read_text(), flags=re.MULTILINE)
    lock.write_text(text + "no_such.package==1.0 ; python_version >= '3'\nelsewhere==1.0 ; sys_platform == 'win32'\n")
    lines = consult(0)
    notes = [line for line in lines if line.startswith("note")]
    assert len(notes) == 2
    assert "mlflow 3." in notes[0]
    assert "(locked 9.9.9): make env" in notes[0]
    assert "no-such-package: make env" in notes[1]


def test_bytecode_that_is_not_compiled(clinic: Path) -> None:
    """PYTHONPYCACHEPREFIX makes Python look for bytecode in another folder, which is empty."""
    note = only(consult(0, PYTHONPYCACHEPREFIX=str(clinic / "empty")), "note")
    assert "no compiled bytecode of torch" in note
    assert "-m compileall -q" in note


@pytest.mark.parametrize(("version", "code"), [("12.4", 1), ("99.0", 0)])
def test_a_driver_must_be_new_enough_for_torch(clinic: Path, version: str, code: int) -> None:
    """nvidia-smi's own words, since there may be no GPU here."""
    tool = clinic / "bin/nvidia-smi"
    tool.write_text(SMI % version)
    tool.chmod(0o755)
    lines = consult(code)
    assert any(line.endswith("GPU: GPU 0: NVIDIA H100 80GB HBM3") for line in lines)
    assert any("torch is built " in line for line in lines)
    if code:
        assert "the driver stops at 12.4" in only(lines, "BAD")


def test_a_driver_without_a_gpu(clinic: Path) -> None:
    tool = clinic / "bin/nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9\n"
    )
    tool.chmod(0o755)
    assert "check the driver" in only(consult(0), "note")


def test_a_container_with_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.container_memory() == []
    for name, text in (
        ("memory.max", "4294967296"),
        ("memory.current", "3221225472"),
        ("memory.stat", "anon 7\ninactive_file 536870912\n"),
    ):
        (tmp_path / name).write_text(f"{text}\n")
    ((state, said),) = machine.check_memory()
    assert state == "note"
    assert said.startswith("1.5 GiB of memory free: a run takes up to 3")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.container_memory() == []


# ------------------------------------------------------------------------------------------------ servers and data


def test_a_taken_port(clinic: Path) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", 5000))
            server.listen()
        except OSError:
            pass  # somebody else has taken it: as good
        assert only(consult(0), "note") == "port 5000 is taken: trainyard ui --port 5001"


def test_trackers_that_answer_and_that_do_not(clinic: Path, listening: int) -> None:
    assert any(
        f"127.0.0.1:{listening} answers" in line
        for line in consult(0, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{listening}/mlflow")
    )
    dead = free_port()
    told = only(consult(1, MLFLOW_TRACKING_URI=f"http://me:secret@127.0.0.1:{dead}"), "BAD")
    assert f"127.0.0.1:{dead} does not answer" in told
    assert "secret" not in told
    assert "sqlite" in only(consult(1, MLFLOW_TRACKING_URI="./mlruns"), "BAD")
    said = consult(1, MLFLOW_TRACKING_URI="http://me:sec/ret@h:notaport")
    assert "http://h:notaport: is not the address of a server" in only(said, "BAD")
    assert not any("sec" in line for line in said)
    assert any("sqlite:///other.db" in line for line in consult(0, MLFLOW_TRACKING_URI="sqlite:///other.db"))


def test_clusters_that_answer_and_that_do_not(clinic: Path, listening: int) -> None:
    assert any("answers" in line for line in consult(0, RAY_ADDRESS=f"127.0.0.1:{listening}"))
    assert "ray start --head" in only(consult(1, RAY_ADDRESS=f"127.0.0.1:{free_port()}"), "BAD")


def test_raw_files_are_the_original_ones(clinic: Path) -> None:
    folder = Path("data/raw/fashion-mnist")
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"<html>not found</html>")
    (folder / "t10k-images-idx3-ubyte.gz.part-77").touch()
    lines = consult(1)
    assert "t10k-labels-idx1-ubyte.gz is not the original" in only(lines, "BAD")
    assert "t10k-images-idx3-ubyte.gz.part-77 is left from a download" in only(lines, "note")


def test_raw_files_that_the_params_need(clinic: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("data.digits.Digits", "data.fashion_mnist.FashionMNIST"))
    notes = [line for line in consult(0) if line.startswith("note")]
    assert len(notes) == 4
    assert "params.yaml needs data/raw/fashion-mnist/train-images-idx3-ubyte.gz, which is not there" in notes[0]
    assert re.search(r"else put it there from http://.*/train-images-idx3-ubyte\.gz$", notes[0])
    params.write_text("name: [")
    assert "params.yaml: line 1" in only(consult(1), "BAD")


def test_raw_files_that_a_recipe_needs(clinic: Path) -> None:
    """Those it names where it chooses; what nobody can fetch is BAD, what is damaged, too."""
    style = str(ROOT / "pipelines/style/scream.yaml")
    notes = [line.split(" needs ")[1].split(",")[0] for line in consult(0, style) if line.startswith("note")]
    assert notes == ["data/raw/photos/the_scream.jpg", "data/raw/photos/rainier.jpg"]
    cells, place = str(ROOT / "pipelines/detection/rcnn-bccd.yaml"), Path("data/raw/bccd/BCCD.tar.gz")
    assert re.search(
        r"needs data/raw/bccd/BCCD.tar.gz, .*: put it there from https://git", only(consult(1, cells), "BAD")
    )
    place.parent.mkdir(parents=True)
    place.write_text("<html>not found</html>")
    assert "BCCD.tar.gz is not the original: remove it" in only(consult(1, cells), "BAD")
    with tarfile.open(place, "w:gz") as archive:
        archive.add(cells, "BCCD/Annotations/a.xml")
    assert "ok    data/raw/bccd: 1 of 1 original file there" in consult(0, cells)
    Path("recipe.yaml").write_text("data: {use: data.cifar_jpeg.CIFAR10JPEG, raw: mine}\n")
    assert "needs mine/cifar10-jpeg/cifar10-jpeg.tar.gz" in only(consult(1, "recipe.yaml"), "BAD")
    Path("mine/cifar10-jpeg/train/cat").mkdir(parents=True)
    assert "ok    mine/cifar10-jpeg: 1 of 1 original file there" in consult(0, "recipe.yaml")


def test_every_set_of_original_files_is_listed(clinic: Path) -> None:
    """Those that take a folder of raw data, and nothing else, name what they read there in plain constants."""
    from components.data import bccd, cifar, cifar_jpeg, fashion_mnist, photos, tatoeba, time_machine

    classes = [bccd.BCCD, cifar.CIFAR10, cifar.CIFAR100, cifar_jpeg.CIFAR10JPEG, fashion_mnist.FashionMNIST]
    classes += [fashion_mnist.MNIST, photos.Photos, tatoeba.Tatoeba, time_machine.TimeMachine]
    found = {one.folder: one for one in inventory.list_originals("params.yaml")}
    assert {f"data/raw/{one.name}" for one in classes} == set(map(str, found))
    for one in classes:
        expected = {file: address for file, (address, _) in one.originals.items()}
        assert {
            path.name: address for path, address in found[Path("data/raw") / one.name].addresses.items()
        } == expected
    takers = [
        f
        for f in inventory.DATASET_FOLDER.glob("*.py")
        if re.search(r"^        raw: str|self, raw: str", f.read_text(), re.M)
    ]
    assert {file.stem for file in takers} == {one.__module__.rpartition(".")[2] for one in classes}
    lines = consult(0)
    for one in classes:
        assert sum(f"data/raw/{one.name}: 0 of {len(one.originals)} original" in line for line in lines) == 1


def test_a_recipe_that_is_not_there(clinic: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "doctor", "no.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trainyard: no.yaml: no such recipe; name a YAML file such as params.yaml\n"
