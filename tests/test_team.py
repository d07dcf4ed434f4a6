"""A team's services, all of them real: retraining through the Ray Jobs API loses a node and ends as if nothing was.

PostgreSQL, MLflow with passwords, an S3 store (moto's server), a Ray cluster of two raylets with tokens, on loopback.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import network
from components.cluster.connection import LOOPBACK
from components.cluster.local import local_cluster
from components.processes import BIN
from components.runs import journal
from components.tracking import mirror
from components.tracking.replay import read_note, to_mlflow_metrics
from pipelines.commands import schedule
from tests.services import ADMIN, SECRETS, TRAINER, Team, start_team
from tests.test_elastic import second_node
from tests.workspace import Workspace, clone

pytestmark = [pytest.mark.cluster(lane=2), pytest.mark.slow]
SMALL = {
    "data.source.per_class": 40,
    "pretrain.fit.epochs": 6,
    "pretrain.fit.checkpoint_seconds": 1.0,
    "tune.folds": 2,
    "tune.search.samples": 2,
    "finetune.seeds": 1,
    "finetune.fit.epochs": 4,
    "evaluate.draws": 100,
}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    import requests

    with start_team(tmp_path_factory.mktemp("team")) as made:
        answer = requests.post(
            f"{made.address}/api/2.0/mlflow/users/create",
            json={"username": "trainer", "password": TRAINER},
            auth=("admin", ADMIN),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        yield made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, services: Team) -> Workspace:
    made = clone(tmp_path_factory.mktemp("yard") / "yard", {"params.yaml": SMALL})
    made.environment |= services.s3
    return made


@pytest.fixture(scope="module")
def cluster(services: Team, workspace: Workspace) -> Iterator[tuple[str, str]]:
    """(address of the head, address of its Jobs API): a head of one CPU that others may join, and knows the tracker."""
    port = network.free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", *LOOPBACK):
            patch.delenv(name, raising=False)
        for name, value in (services.client | services.s3 | {"PYTHONPATH": str(workspace.folder)}).items():
            patch.setenv(name, value)
        with local_cluster(cpus=1, loopback=False, jobs=port) as address:
            assert network.accepts_connections(f"127.0.0.1:{port}", 60)
            yield address, f"http://127.0.0.1:{port}"


def submit(workspace: Workspace, jobs: str, *command: str, log: Path, **environment: str) -> subprocess.Popen:
    line = [sys.executable, "-m", "pipelines", "submit", f"--address={jobs}", *command]
    with log.open("w") as file:
        return subprocess.Popen(
            line, cwd=workspace.folder, env=workspace.environment | environment, stdout=file, stderr=subprocess.STDOUT
        )


def steps(workspace: Workspace, stage: str) -> int:
    """The last step in the journal of a stage's run."""
    found = [
        record.payload["step"]
        for file in (workspace.folder / ".trainyard" / "runs").glob(f"{stage}-*/{journal.LOG}")
        for record in journal.read_records(file, "progress")
    ]
    return max(found, default=0)


def test_who_has_no_password_is_refused(services: Team) -> None:
    import requests

    page = f"{services.address}/api/2.0/mlflow/experiments/search?max_results=1"
    codes = [
        requests.get(page, auth=auth, timeout=30).status_code for auth in (None, ("trainer", "x"), ("trainer", TRAINER))
    ]
    assert codes == [401, 401, 200]
    assert requests.get(f"{services.address}/health", timeout=30).status_code == 200, "probes need no password"


def test_a_wrong_token_is_refused(workspace: Workspace, cluster: tuple[str, str]) -> None:
    said = workspace.trainyard("submit", f"--address={cluster[1]}", "summary", code=2, RAY_AUTH_TOKEN="0" * 64)
    assert re.fullmatch(r"trainyard: http\S+ refuses our token: .*\n", said)


def test_the_exit_code_of_a_job_is_that_of_its_command(workspace: Workspace, cluster: tuple[str, str]) -> None:
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:1"}  # which Ray's client would prefer to the address it is given
    said = workspace.trainyard("submit", f"--address={cluster[1]}", "plan", "nowhere.yaml", code=2, **elsewhere)
    assert "nowhere.yaml" in said


@pytest.fixture(scope="module")
def retrained(workspace: Workspace, cluster: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The log of a retraining that lost one of its two nodes in the middle of pretraining."""
    folder = tmp_path_factory.mktemp("job")
    log = folder / "log"
    with second_node(cluster[0], folder):
        job = submit(workspace, cluster[1], *schedule.COMMAND, log=log, TRAINYARD_WORKERS="1:2")
        until = time.monotonic() + 600
        while steps(workspace, "pretrain") < 20:
            assert job.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
    lost_at = steps(workspace, "pretrain")
    assert job.wait(900) == 0, log.read_text()
    assert not (workspace.folder / "models/pretrain").is_dir() or steps(workspace, "pretrain") > lost_at, "too late"
    return log.read_text()


def test_a_lost_node_costs_the_job_nothing_but_time(workspace: Workspace, retrained: str) -> None:
    assert "job raysubmit" in retrained
    assert 0.3 < workspace.json("metrics/evaluate.json")["accuracy"] <= 1


def test_postgres_has_every_point_once(
    services: Team, workspace: Workspace, retrained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.client.items():
        monkeypatch.setenv(name, value)
    runs = workspace.folder / ".trainyard" / "runs"
    mirror.Mirror(runs).send()  # what the server, on a busy machine, had not taken when the job ended
    points = []
    for file in runs.rglob(journal.RUN):
        run = read_note(file.parent).run
        records = [record for log in file.parent.glob("*.log") for record in journal.read_records(log)]
        points += [(run, m.key, m.step, m.value, m.timestamp) for record in records for m in to_mlflow_metrics(record)]
    kept = services.sql("SELECT run_uuid, key, step, value, timestamp FROM metrics")
    assert len(kept) > 500
    assert sorted(kept) == sorted(set(points))
    stages = {row[0] for row in services.sql("SELECT value FROM tags WHERE key = 'trainyard.stage'")}
    assert {"pipeline", "pretrain", "tune", "finetune", "evaluate"} <= stages
    assert services.sql("SELECT name, version FROM model_versions") == [("glyphs-to-digits", 1)]


def test_the_alias_moved_once(services: Team, workspace: Workspace, retrained: str) -> None:
    assert services.sql("SELECT alias, version FROM registered_model_aliases") == [("champion", 1)]
    kinds = [record.kind for record in journal.read_records(workspace.folder / "promotions" / "ledger.log")]
    assert kinds == ["decided", "moved", "audited"]


def test_files_lie_in_the_store(services: Team, retrained: str) -> None:
    keys = services.keys("mlflow/")
    assert any(key.endswith("/index.html") for key in keys)
    assert any(key.endswith("/weights.safetensors") for key in keys)


def test_no_password_is_written_anywhere(services: Team, workspace: Workspace, retrained: str) -> None:
    """Not to the database (the server keeps hashes), the store, the work folder, the report, a log or an argument."""
    tables = services.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 20
    texts = {
        table: "\n".join(row[0] for row in services.sql(f'SELECT t::text FROM "{table}" t')) for (table,) in tables
    }
    texts["job"] = retrained
    client = services.boto()
    for key in services.keys("mlflow/"):
        texts[key] = client.get_object(Bucket=services.bucket, Key=key)["Body"].read().decode(errors="replace")
    for file in [*workspace.folder.rglob("*"), services.folder / "tracker.log"]:
        if file.is_file() and not file.is_symlink() and not {".git", "tests"} & set(file.parts):
            texts[str(file)] = file.read_bytes().decode(errors="replace")
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts[str(line)] = line.read_text(errors="replace")
        except OSError:
            continue
    assert len(texts) > 200
    assert [name for name, text in texts.items() if any(secret in text for secret in SECRETS)] == []


def test_the_cache_comes_back_from_the_store(services: Team, workspace: Workspace, retrained: str) -> None:
    dvc = str(BIN / "dvc")
    workspace.run(dvc, "remote", "add", "-d", "store", f"s3://{services.bucket}/dvc")
    workspace.run(dvc, "remote", "modify", "store", "endpointurl", services.s3["AWS_ENDPOINT_URL"])
    before = workspace.bytes("models", "data/prepared")
    workspace.run(dvc, "push")
    assert len(services.keys("dvc/")) > 10
    for folder in (".dvc/cache", "models", "data/prepared"):
        shutil.rmtree(workspace.folder / folder)
    workspace.run(dvc, "pull", "--allow-missing")  # what other pipelines never made is missing
    assert workspace.bytes("models", "data/prepared") == before
    assert "Running stage" not in workspace.run(dvc, "repro", "--dry")


def test_a_new_object_below_a_prefix_is_new_data(services: Team, workspace: Workspace, retrained: str) -> None:
    """`dvc update`, which `retrain --update` calls, brings it into data/raw; DVC then wants `prepare` to run again."""
    client, dvc = services.boto(), str(BIN / "dvc")
    client.put_object(Bucket=services.bucket, Key="incoming/a/1.txt", Body=b"a")
    workspace.run(dvc, "import-url", f"s3://{services.bucket}/incoming", "data/raw/incoming")
    workspace.run(dvc, "commit", "--force", "prepare")  # as a run with this much of it would leave things
    assert "up to date" in workspace.run(dvc, "status", "data/raw/incoming.dvc", "prepare")
    client.put_object(Bucket=services.bucket, Key="incoming/b/2.txt", Body=b"b")
    assert "incoming" in workspace.run(dvc, "status", "data/raw/incoming.dvc")
    assert "Running stage" not in workspace.run(dvc, "repro", "--dry", "prepare"), "not before it is fetched"
    workspace.run(dvc, "update", "data/raw/incoming.dvc")
    assert (workspace.folder / "data/raw/incoming/b/2.txt").read_bytes() == b"b"
    assert "Running stage 'prepare'" in workspace.run(dvc, "repro", "--dry", "prepare")
