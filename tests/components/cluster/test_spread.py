"""Test functions on real Ray workers: results, errors, retries, and what the driver must not import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from components.cluster import spread
from components.errors import Refusal
from components.recipes import allowed, recipe
from components.training import rendezvous
from components.training.peers import Peers

pytestmark = pytest.mark.cluster(lane=1)


def run(function, *arguments, workers: int, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINYARD_WORKERS", str(workers))
    monkeypatch.setenv("TRAINYARD_THREADS", "1")
    return spread.run_on_workers(function, *arguments, name="test", folder=folder / "ray")


@pytest.fixture
def run_on_two(cluster_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    return lambda function, *arguments: run(function, *arguments, workers=2, folder=tmp_path, monkeypatch=monkeypatch)


def gather_values(peers: Peers, values: list[float]) -> tuple[int, list[float], str, int]:
    gathered = peers.gather(values[peers.rank])
    assert peers.all_gather(torch.tensor([values[peers.rank]])).tolist() == gathered
    assert peers.memory is not None, "both are on one machine"
    return peers.rank, gathered, str(Path.cwd()), torch.get_num_threads()


def test_a_function_runs_on_all_workers_and_returns_rank_0s_result(run_on_two) -> None:
    assert run_on_two(gather_values, [1.0, 2.0]) == (0, [1.0, 2.0], str(Path.cwd()), 1)


def build_width(peers: Peers, section: dict[str, Any]) -> int:
    sys.path.insert(0, str(Path.cwd()))  # stands in for PYTHONPATH, which was set before this test
    return int(recipe.build(section, object).width)


def test_workers_allow_the_same_code_as_the_driver(run_on_two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab.py").write_text(
        "class Wide:\n    def __init__(self, width: int) -> None:\n        self.width = width\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allowed, "PACKAGES", {"mylab"})
    assert run_on_two(build_width, {"use": "mylab.Wide", "width": 3}) == 3
    monkeypatch.setattr(allowed, "PACKAGES", {"other"})
    with pytest.raises(Refusal, match="must be allowed by TRAINYARD_ALLOW=mylab"):
        run_on_two(build_width, {"use": "mylab.Wide", "width": 3})


def rank_and_size(peers: Peers) -> tuple[int, int]:
    return peers.rank, peers.size


def test_a_single_worker_needs_no_process_group(cluster_of_two: str, tmp_path: Path, monkeypatch) -> None:
    assert run(rank_and_size, workers=1, folder=tmp_path, monkeypatch=monkeypatch) == (0, 1)


def list_listening_hosts(peers: Peers) -> tuple[list[str], str]:
    """Return the hosts at which the workers listen, and the folder in which they met."""
    connections = psutil.Process().net_connections("inet")
    own = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    hosts = sorted({host for share in peers.gather(sorted(own)) for host in share})
    return hosts, rendezvous.current_place().folder


def test_workers_listen_on_loopback_only_and_leave_no_folder(run_on_two) -> None:
    """torch's own rendezvous listens on all interfaces, whatever address it is given."""
    hosts, folder = run_on_two(list_listening_hosts)
    assert hosts
    assert set(hosts) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert Path(folder).name.startswith(rendezvous.PREFIX)
    assert not Path(folder).exists()


def list_job_processes(peers: Peers) -> list[str]:
    """Return the titles of the processes that this worker's raylet runs for any job."""
    peers.gather(0)
    raylet = psutil.Process().parent()
    assert raylet is not None
    titles = [" ".join(process.cmdline()).strip() for process in raylet.children()]
    names = [title.split("::")[1] for title in titles if title.startswith("ray::")]
    return [name for name in names if name != "IDLE" and not name.endswith("Agent")]  # those belong to the node


def test_no_process_is_started_but_the_workers(run_on_two) -> None:
    """Neither for the controller nor for the rendezvous: components/cluster/controller.py."""
    names = run_on_two(list_job_processes)
    assert len(names) == 2, names
    assert all(name.startswith("RayTrainWorker") for name in names), names


def refuse(peers: Peers) -> None:
    peers.gather(0)
    if peers.rank == 1:
        raise Refusal("data/raw: missing; put it there")
    peers.gather(0)


def test_a_refusal_on_a_worker_is_raised_unchanged(run_on_two) -> None:
    with pytest.raises(Refusal) as refused:
        run_on_two(refuse)
    assert str(refused.value) == "data/raw: missing; put it there"


def fail(peers: Peers, folder: str) -> None:
    Path(folder, f"called-{os.getpid()}").touch()
    raise ZeroDivisionError("our own mistake")


def test_an_error_of_our_own_code_is_not_retried_and_keeps_its_traceback(run_on_two, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run_on_two(fail, str(tmp_path))
    note = "\n".join(raised.value.__notes__)
    assert "on worker" in note
    assert 'raise ZeroDivisionError("our own mistake")' in note
    assert len(list(tmp_path.glob("called-*"))) <= 2


def die_once(peers: Peers, folder: str) -> str:
    marker = Path(folder, "died")
    peers.gather(0)
    if peers.rank == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{peers.size} again: {peers.gather(peers.rank)}"


def test_a_killed_worker_is_replaced_and_the_function_called_again(run_on_two, tmp_path: Path) -> None:
    assert run_on_two(die_once, str(tmp_path)) == "2 again: [0, 1]"
    assert (tmp_path / "died").exists()


def test_workers_import_from_the_drivers_directory_and_the_driver_never_imports_torch(
    cluster_of_two: str, tmp_path: Path
) -> None:
    """DVC runs experiments in copies of the repository; the copy precedes the installed package."""
    root = Path(__file__).parents[3]
    for file in [*root.glob("components/**/*.py"), *root.glob("pipelines/*.py")]:
        copied = tmp_path / file.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(file.read_text())
    (tmp_path / "pipelines" / "here.py").write_text("def where(peers):\n    return __file__\n")
    code = """
        import sys
        from pathlib import Path
        from components.cluster import spread
        from pipelines import here
        print("WORKER", spread.run_on_workers(here.where, name="here", folder=Path("ray")))
        print("HEAVY", sorted({"torch", "mlflow"} & set(sys.modules)))
    """
    driver = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=os.environ | {"TRAINYARD_WORKERS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"WORKER {tmp_path}/pipelines/here.py" in driver.stdout
    assert "HEAVY []" in driver.stdout
    assert list((tmp_path / "ray").glob("here-*")) == []
