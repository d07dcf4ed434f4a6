"""`trainyard doctor` in a process of its own, on machines where everything is fine and where something is wrong."""

from __future__ import annotations

import importlib
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
from components.tracking import server
from pipelines.commands import doctor, machine
from tests.pipelines.conftest import ROOT

VARYING = ("of memory free", "for trainyard ui", "trainyard ui --port")  # in lines that depend on other processes
SMI = """\
#!/bin/sh
if [ "$1" = "-L" ]; then echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8d1c)"; exit; fi
echo "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: %s     |"
"""


@pytest.fixture
def healthy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder in which nothing is wrong, as the current folder."""
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
    program = shutil.which(name)
    assert program
    (folder / name).symlink_to(program)
    return folder


def run_doctor(code: int, *recipe: str, **environment: str) -> list[str]:
    """Return the printed lines; the exit code must be `code`."""
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
    return [line for line in lines if not any(text in line for text in VARYING)]


def only(lines: list[str], state: str) -> str:
    """Return the text of the only line in this state."""
    (line,) = [line for line in lines if line.startswith(state)]
    return line.removeprefix(state).strip()


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_nothing_is_bad_in_a_healthy_folder(healthy_folder: Path) -> None:
    lines = run_doctor(0)
    assert not [line for line in lines if line.startswith("BAD")]
    text = "\n".join(lines)
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
        assert word in text


def test_it_is_quick_and_imports_nothing_heavy(healthy_folder: Path) -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_doctor(0)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 1.5
    code = (
        "import sys; from pipelines.commands import doctor; doctor.main(); "
        "assert not {'torch', 'numpy', 'ray', 'mlflow', 'dvc', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------ the repository


def test_outside_a_repository(healthy_folder: Path) -> None:
    shutil.rmtree(".dvc")
    assert ".dvc: no such folder; run trainyard in the root" in only(run_doctor(1), "BAD")
    Path(".dvc").mkdir()
    Path(".git").rmdir()
    assert "dvc needs a git repository here; git init" in only(run_doctor(1), "BAD")


def test_without_git(healthy_folder: Path) -> None:
    assert "git is missing" in only(run_doctor(1, PATH=""), "BAD")


def test_without_the_template_of_dvcs_plots(healthy_folder: Path) -> None:
    Path(".dvc/config").write_text("[plots]\n    html_template = plots.html\n")
    assert "trainyard report" in only(run_doctor(0), "note")
    Path(".dvc/plots.html").touch()
    assert "note" not in "".join(run_doctor(0))


def test_locks_of_live_and_ended_processes_and_damaged_locks(healthy_folder: Path) -> None:
    lock = Path(".dvc/tmp/rwlock")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock.write_text(json.dumps({"write": {"/x": {"pid": ended.pid, "cmd": "dvc repro"}}, "read": {}}))
    assert "has ended" in only(run_doctor(0), "note")
    lock.write_text(json.dumps({"write": {}, "read": {"/x": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}))
    assert f"process {os.getpid()}" in only(run_doctor(0), "note")
    lock.write_text('{"write": ')
    assert only(run_doctor(1), "BAD") == ".dvc/tmp/rwlock is damaged: rm .dvc/tmp/rwlock"
    lock.write_text('{"write": {}, "read": {}}')
    index = Path(".git/index.lock")
    index.parent.mkdir(exist_ok=True)
    index.touch()
    run_doctor(0)  # a git command may be running
    os.utime(index, (time.time() - 120,) * 2)
    assert only(run_doctor(1), "BAD") == ".git/index.lock was left behind by a killed git: rm .git/index.lock"


# ------------------------------------------------------------------------------------------------ the environment


def test_packages_that_differ_from_the_lock_file(healthy_folder: Path) -> None:
    lock = Path("requirements.lock")
    text = re.sub(r"^mlflow==\S+", "mlflow==9.9.9", lock.read_text(), flags=re.MULTILINE)
    lock.write_text(text + "no_such.package==1.0 ; python_version >= '3'\nelsewhere==1.0 ; sys_platform == 'win32'\n")
    lines = run_doctor(0)
    notes = [line for line in lines if line.startswith("note")]
    assert len(notes) == 2
    assert "mlflow 3." in notes[0]
    assert "(locked 9.9.9): make env" in notes[0]
    assert "no-such-package: make env" in notes[1]


def test_bytecode_that_is_not_compiled(healthy_folder: Path) -> None:
    """PYTHONPYCACHEPREFIX makes Python look for bytecode in another folder, which is empty."""
    note = only(run_doctor(0, PYTHONPYCACHEPREFIX=str(healthy_folder / "empty")), "note")
    assert "no compiled bytecode of torch" in note
    assert "-m compileall -q" in note


@pytest.mark.parametrize(("version", "code"), [("12.4", 1), ("99.0", 0)])
def test_a_driver_must_be_new_enough_for_torch(healthy_folder: Path, version: str, code: int) -> None:
    """A script prints what nvidia-smi does, because there may be no GPU here."""
    tool = healthy_folder / "bin/nvidia-smi"
    tool.write_text(SMI % version)
    tool.chmod(0o755)
    lines = run_doctor(code)
    assert any(line.endswith("GPU: GPU 0: NVIDIA H100 80GB HBM3") for line in lines)
    assert any("torch is built " in line for line in lines)
    if code:
        assert "the driver supports only 12.4" in only(lines, "BAD")


def test_a_driver_without_a_gpu(healthy_folder: Path) -> None:
    tool = healthy_folder / "bin/nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9\n"
    )
    tool.chmod(0o755)
    assert "check the driver" in only(run_doctor(0), "note")


def test_a_container_with_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.container_memory() == []
    for name, text in (
        ("memory.max", "4294967296"),
        ("memory.current", "3221225472"),
        ("memory.stat", "anon 7\ninactive_file 536870912\n"),
    ):
        (tmp_path / name).write_text(f"{text}\n")
    ((state, text),) = machine.check_memory()
    assert state == "note"
    assert text.startswith("1.5 GiB of memory free: a run takes up to 3")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.container_memory() == []


# ------------------------------------------------------------------------------------------------ servers and data


def test_a_taken_port(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PORT", listening)
    assert list(doctor.check_ports()) == [
        ("note", f"port {listening} is taken: trainyard ui --port {listening + 1}"),
    ]
    monkeypatch.setattr(server, "PORT", free_port())
    assert [state for state, _ in doctor.check_ports()] == ["ok"]


def test_trackers_that_answer_and_that_do_not(healthy_folder: Path, listening: int) -> None:
    """An open port is not enough; test_team.py asks a real tracker and its store."""
    silent = f"http://127.0.0.1:{listening}/mlflow"
    assert f"the tracker {silent}: does not answer" in only(run_doctor(1, MLFLOW_TRACKING_URI=silent), "BAD")
    dead = free_port()
    line = only(run_doctor(1, MLFLOW_TRACKING_URI=f"http://me:secret@127.0.0.1:{dead}"), "BAD")
    assert f"127.0.0.1:{dead}: does not answer (Connection refused): start it, or unset" in line
    assert "secret" not in line
    assert "sqlite" in only(run_doctor(1, MLFLOW_TRACKING_URI="./mlruns"), "BAD")
    lines = run_doctor(1, MLFLOW_TRACKING_URI="http://me:sec/ret@h:notaport")
    assert "http://h:notaport: is not the address of a server" in only(lines, "BAD")
    assert not any("sec" in line for line in lines)
    assert any("sqlite:///other.db" in line for line in run_doctor(0, MLFLOW_TRACKING_URI="sqlite:///other.db"))


def test_clusters_that_do_not_answer(healthy_folder: Path, listening: int) -> None:
    """test_health.py asks a real one."""
    for port in (listening, free_port()):
        line = only(run_doctor(1, RAY_ADDRESS=f"127.0.0.1:{port}"), "BAD")
        assert line.startswith(f"RAY_ADDRESS=127.0.0.1:{port}: does not answer")
        assert "ray start --head" in line


def test_dvcs_remote(healthy_folder: Path) -> None:
    config = Path(".dvc/config")
    config.write_text("[core]\n    remote = store\n")
    assert "names 'store', which is not there" in only(run_doctor(1), "BAD")
    config.write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../kept\n")
    assert f"{healthy_folder}/kept is not a folder that can be written" in only(run_doctor(1), "BAD")
    Path("kept").mkdir()
    assert any(f"DVC's remote {healthy_folder}/kept can be written" in line for line in run_doctor(0))


def test_a_git_lock_of_a_checkout_in_a_sub_folder_and_of_a_worktree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["init", "-q"],
        [*identity, "commit", "-q", "--allow-empty", "-m", "start"],
        ["worktree", "add", "w"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "sub").mkdir()
    for folder, index in {"sub": ".git/index.lock", "w": ".git/worktrees/w/index.lock"}.items():
        monkeypatch.chdir(tmp_path / folder)
        (tmp_path / index).touch()
        os.utime(tmp_path / index, (0, 0))
        ((state, text),) = doctor.check_locks()
        assert state == "BAD"
        assert f"{index} was left behind by a killed git" in text
        (tmp_path / index).unlink()


def test_raw_files_are_the_original_ones(healthy_folder: Path) -> None:
    folder = Path("data/raw/fashion-mnist")
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"<html>not found</html>")
    (folder / "t10k-images-idx3-ubyte.gz.part-77").touch()
    lines = run_doctor(1)
    assert "t10k-labels-idx1-ubyte.gz is not the original" in only(lines, "BAD")
    assert "t10k-images-idx3-ubyte.gz.part-77 was left behind by an interrupted download" in only(lines, "note")


def test_raw_files_that_the_params_need(healthy_folder: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("data.digits.Digits", "data.fashion_mnist.FashionMNIST"))
    notes = [line for line in run_doctor(0) if line.startswith("note")]
    assert len(notes) == 4
    assert "params.yaml needs data/raw/fashion-mnist/train-images-idx3-ubyte.gz, which is missing" in notes[0]
    assert re.search(r"otherwise put it there from https://.*/train-images-idx3-ubyte\.gz$", notes[0])
    params.write_text("name: [")
    assert "params.yaml: line 1" in only(run_doctor(1), "BAD")


def test_raw_files_that_a_recipe_needs(healthy_folder: Path) -> None:
    """Only files that the recipe names are needed; BAD if they are damaged or cannot be downloaded."""
    style = str(ROOT / "pipelines/style/scream.yaml")
    notes = [line.split(" needs ")[1].split(",")[0] for line in run_doctor(0, style) if line.startswith("note")]
    assert notes == ["data/raw/photos/the_scream.jpg", "data/raw/photos/rainier.jpg"]
    cells, place = str(ROOT / "pipelines/detection/rcnn-bccd.yaml"), Path("data/raw/bccd/BCCD.tar.gz")
    assert re.search(
        r"needs data/raw/bccd/BCCD.tar.gz, .*: put it there from https://git", only(run_doctor(1, cells), "BAD")
    )
    place.parent.mkdir(parents=True)
    place.write_text("<html>not found</html>")
    assert "BCCD.tar.gz is not the original: remove it" in only(run_doctor(1, cells), "BAD")
    with tarfile.open(place, "w:gz") as archive:
        archive.add(cells, "BCCD/Annotations/a.xml")
    assert "ok    data/raw/bccd: 1 original file present" in run_doctor(0, cells)
    Path("recipe.yaml").write_text("data: {use: data.cifar_jpeg.CIFAR10JPEG, raw: mine}\n")
    assert "needs mine/cifar10-jpeg/cifar10-jpeg.tar.gz" in only(run_doctor(1, "recipe.yaml"), "BAD")
    Path("mine/cifar10-jpeg/train/cat").mkdir(parents=True)
    assert "ok    mine/cifar10-jpeg: 1 original file present" in run_doctor(0, "recipe.yaml")


def test_every_data_set_with_original_files_is_listed(healthy_folder: Path) -> None:
    """Exactly the data sets with an argument `raw` name their files in plain constants."""
    files = sorted(inventory.DATASET_FOLDER.glob("*.py"))
    with_raw = [file.stem for file in files if re.search(r"\braw: str = ", file.read_text())]
    modules = [importlib.import_module(f"components.data.{name}") for name in with_raw]
    members = [(module, value) for module in modules for value in vars(module).values() if isinstance(value, type)]
    classes = [kind for module, kind in members if kind.__module__ == module.__name__ and "originals" in vars(kind)]
    assert {kind.__module__ for kind in classes} == {module.__name__ for module in modules}
    assert len(classes) >= 14
    folders = {
        kind: Path("data/raw", getattr(kind, "raw_folder", None) or getattr(kind, "name", "")) for kind in classes
    }
    listed = {status.folder: status for status in inventory.list_originals("params.yaml")}
    assert set(folders.values()) == set(listed)
    for kind, folder in folders.items():
        expected = {folder / file: address for file, (address, _) in kind.originals.items()}
        assert listed[folder].addresses == expected
    assert any(f"{len(listed)} data sets lack original files that params.yaml" in line for line in run_doctor(0))


def test_a_recipe_that_is_not_there(healthy_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "doctor", "no.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trainyard: no.yaml: no such recipe; name a YAML file such as params.yaml\n"
