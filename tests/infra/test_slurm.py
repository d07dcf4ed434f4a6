"""Jobs of Slurm, in a real one on this machine (apt: slurm-wlm): they are queued again and continue, unless cancelled.

A short program stands in for the commands of trainyard; Slurm, the script and Ray are real.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.cluster.allocation import await_machines
from components.errors import Refusal, TryLater
from components.network import free_port
from pipelines import door
from pipelines.commands import slurm
from tests.infra.manifests import ROOT, fill_templates
from tests.infra.slurm import Slurm, can_run, start_slurm

COMMAND = """
import os, signal, sys, time
from pathlib import Path
def save(*_):
    Path("saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
with Path("starts").open("a") as starts:
    print(os.environ.get("SLURM_RESTART_COUNT", "0"), Path("saved").exists(), file=starts)
if Path("machines").exists():
    sys.path.insert(0, ROOT)
    from components.cluster import connection, plan
    connection.connect()
    Path("machines").write_text(str(plan.count_machines()))
elif not Path("saved").exists():
    time.sleep(100)
"""
needs_slurm = pytest.mark.skipif(not can_run(), reason="needs slurm-wlm, and root")


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with start_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Provide a folder with a `python` that runs COMMAND in place of `-m pipelines`."""
    (tmp_path / ".trainyard").mkdir()
    (tmp_path / "command.py").write_text(COMMAND.replace("ROOT", repr(str(ROOT))))
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$2" = pipelines ] && exec {sys.executable} command.py\n'
        f'PYTHONPATH={ROOT} exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return tmp_path


def queue_job(queue: Slurm, checkout: Path, *options: str, nodes: int = 1) -> str:
    script = checkout / "job.sbatch"
    script.write_text(slurm.render_script(["run"], str(checkout), str(checkout / "python"), nodes, options))
    return queue.run("sbatch", "--parsable", str(script))


def run_requeued(queue: Slurm, job: str) -> str:
    """Let a job that was queued again start at once, not in two minutes; return the state in which it ends."""
    queue.wait_for(job, "PENDING")
    time.sleep(3)  # a node refuses a job that it has ended less than a second or two ago
    queue.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    return queue.wait_for(job, "COMPLETED", "FAILED")


def read_starts(checkout: Path, count: int = 1, patience: float = 60.0) -> list[str]:
    """Return (number of restarts, whether something was saved) of each start, when there are `count` of them."""
    deadline = time.monotonic() + patience
    while True:
        lines = (checkout / "starts").read_text().splitlines() if (checkout / "starts").exists() else []
        if len(lines) >= count:
            return lines
        assert time.monotonic() < deadline, [file.read_text() for file in checkout.glob(".trainyard/*.log")]
        time.sleep(0.1)


@pytest.mark.slow
@needs_slurm
def test_a_job_that_is_preempted_saves_and_continues_later(queue: Slurm, checkout: Path) -> None:
    job = queue_job(queue, checkout, "--partition=low", "--nodelist=node1")
    read_starts(checkout)
    urgent = queue.run(
        "sbatch", "--parsable", "--partition=high", "--nodelist=node1", "--output=/dev/null", "--wrap=sleep 1"
    )
    queue.wait_for(urgent, "COMPLETED")
    assert (checkout / "saved").exists(), "it was told before Slurm ended it"
    assert run_requeued(queue, job) == "COMPLETED"
    assert read_starts(checkout, 2) == ["0 False", "1 True"]


@pytest.mark.slow
@needs_slurm
def test_a_job_near_its_time_limit_is_queued_again_and_a_cancelled_one_is_not(queue: Slurm, checkout: Path) -> None:
    job = queue_job(queue, checkout, "--nodelist=node1")
    read_starts(checkout)
    queue.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm does 90 seconds before the limit
    assert run_requeued(queue, job) == "COMPLETED"
    assert read_starts(checkout, 2) == ["0 False", "1 True"]
    (checkout / "saved").unlink()
    other = queue_job(queue, checkout, "--nodelist=node2")
    read_starts(checkout, 3)
    queue.run("scancel", other)
    assert queue.wait_for(other, "CANCELLED") == "CANCELLED"
    time.sleep(2)
    assert len(read_starts(checkout)) == 3
    (log,) = checkout.glob(f".trainyard/slurm-{job}.log")
    assert "queued again, to continue from its checkpoint" in log.read_text()


@pytest.mark.slow
@needs_slurm
def test_ray_runs_on_all_nodes_of_a_job(queue: Slurm, checkout: Path) -> None:
    (checkout / "machines").touch()
    job = queue_job(queue, checkout, nodes=2)
    state = queue.wait_for(job, "COMPLETED", "FAILED", patience=120)
    assert state == "COMPLETED", next(checkout.glob(".trainyard/*.log")).read_text()
    assert (checkout / "machines").read_text() == "2"
    assert not list(checkout.glob(".trainyard/*.token"))


def test_the_script_is_valid_bash_and_has_the_options(tmp_path: Path) -> None:
    text = slurm.render_script(
        ["run", "--workers", "8"], "/yard", "/my env/python", 4, ["--partition=gpu", "--exclusive"]
    )
    assert "#SBATCH --nodes=4\n" in text
    assert "#SBATCH --partition=gpu\n#SBATCH --exclusive\n" in text
    assert "\n    '/my env/python' -m pipelines run --workers 8 &\n" in text
    assert "{{" not in text
    options = text[: text.index("set -u")]
    assert all(line.startswith("#") for line in options.splitlines()), "sbatch reads no option after the first command"
    (tmp_path / "job").write_text(text)
    subprocess.run(["bash", "-n", tmp_path / "job"], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", tmp_path / "job"], check=True)
    for option in ("partition=gpu", "--output=x", "--signal=B:TERM@1", "--comment=a b", "--x\nrm -rf /"):
        with pytest.raises(Refusal, match="--sbatch"):
            slurm.render_script(["run"], "/yard", "python", options=[option])
    with pytest.raises(Refusal, match="takes no spaces"):
        slurm.render_script(["run"], "/my yard", "python")


SLURM = """#!/bin/sh
echo "${0##*/} $*" >> calls
case "${0##*/} $*" in
    *hostnames*) printf 'node1\\nnode2\\n' ;;
    *"show node"*) echo NodeAddr=127.0.0.1 ;;
    squeue*) echo RUNNING ;;
esac
"""
PYTHON = """#!/bin/sh
case "$2" in
    *secrets*) echo token ;;
    *await_machines*) touch waits; AWAIT ;;
    pipelines) touch ran ;;
esac
"""


def start_alone(folder: Path, await_command: str) -> subprocess.Popen[str]:
    """Start the script of a job of two nodes without a Slurm; the machines are awaited by a command of the shell."""
    tools = folder / "tools"
    tools.mkdir()
    texts = dict.fromkeys(("scontrol", "srun", "squeue", "sleep"), SLURM)
    for name, text in (texts | {"python": PYTHON.replace("AWAIT", await_command)}).items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    script = folder / "job.sbatch"
    script.write_text(slurm.render_script(["run"], str(folder), str(tools / "python"), 2))
    job = {"JOB_ID": "7", "JOB_NUM_NODES": "2", "JOB_NODELIST": "node[1-2]", "CPUS_ON_NODE": "1"}
    environment = {f"SLURM_{name}": value for name, value in job.items()} | {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", str(script)], env=environment, text=True)


def test_a_job_whose_machines_do_not_join_is_queued_again(tmp_path: Path) -> None:
    process = start_alone(tmp_path, "exit 75")
    assert process.wait(60) == 75
    assert "scontrol requeue 7\n" in (tmp_path / "calls").read_text()
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob(".trainyard/*.token"))


def test_a_job_that_is_told_while_its_machines_join_is_queued_again(tmp_path: Path) -> None:
    process = start_alone(tmp_path, "exec /bin/sleep 100")
    deadline = time.monotonic() + 30
    while not (tmp_path / "waits").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    process.wait(30)
    assert "scontrol requeue 7\n" in (tmp_path / "calls").read_text()
    assert not (tmp_path / "ran").exists()


def test_a_head_that_does_not_start_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(TryLater, match=r"the head of the Ray cluster at 127.0.0.1:.* has not started in 0 s"):
        await_machines(2, patience=0.1)


def test_a_schedule_by_slurm_queues_the_retrain(tmp_path: Path) -> None:
    texts = fill_templates("slurm", nodes=2, sbatch=["--partition=gpu"])
    line = "30 2 * * 1,2,3,4,5 mkdir -p /yard/.trainyard && sbatch /yard/trainyard.sbatch"
    assert texts["slurm/scrontab"].splitlines()[-1] == line
    assert "\n    python -m pipelines retrain --update &\n" in texts["slurm/trainyard.sbatch"]
    assert "#SBATCH --nodes=2\n" in texts["slurm/trainyard.sbatch"]


def test_the_scrontab_creates_the_folder_of_the_logs_and_queues_the_script(tmp_path: Path) -> None:
    """Slurm does not create it, and a job without it fails silently. `schedule` itself creates nothing there."""
    checkout, written, log = tmp_path / "yard", tmp_path / "its files", tmp_path / "queued"
    (checkout / ".dvc").mkdir(parents=True)
    (checkout / "params.yaml").touch()
    written.mkdir()
    assert door.main(["schedule", "--to=slurm", "--at=@daily", f"--folder={checkout}", f"--write={written}"]) == 0
    assert sorted(path.name for path in checkout.iterdir()) == [".dvc", "params.yaml"]
    assert f"--output={checkout}/.trainyard/" in (written / "trainyard.sbatch").read_text()
    command = (written / "scrontab").read_text().splitlines()[-1].removeprefix("0 0 * * * ")
    sbatch = f'sbatch() {{ test -d "{checkout}/.trainyard" && cp "$1" "{log}"; }}\n'
    subprocess.run(["sh", "-c", sbatch + command], check=True)
    assert log.read_text() == (written / "trainyard.sbatch").read_text()


def test_submit_writes_the_script_or_says_that_there_is_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert door.main(["submit", "--to", "slurm", "--nodes", "2", "--write", "job.sbatch", "run", "--budget", "2h"]) == 0
    assert capsys.readouterr().out == "job.sbatch\n"
    assert re.search(r"-m pipelines run --budget 2h &$", Path("job.sbatch").read_text(), re.MULTILINE)
    assert door.main(["submit", "--to", "slurm", "retrain"]) == 2
    assert "sbatch is not here; on a machine of the batch system: sbatch" in capsys.readouterr().err
    sbatch = tmp_path / "sbatch"
    for reason, code in (("invalid partition specified: gpus", 2), ("Unable to contact slurm controller", 75)):
        sbatch.write_text(f"#!/bin/sh\necho 'sbatch: error: {reason}' >&2\nexit 1\n")
        sbatch.chmod(0o755)
        assert door.main(["submit", "--to", "slurm", "retrain"]) == code
        assert f"sbatch: sbatch: error: {reason}; the script is" in capsys.readouterr().err
    assert door.main(["submit", "--nodes", "2", "retrain"]) == 2
    assert "--nodes is for --to slurm" in capsys.readouterr().err
    assert door.main(["submit", "--to", "slurm", "retrian"]) == 2
