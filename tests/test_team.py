"""A retraining through the Ray Jobs API loses a node, and its results are complete at a team's real services.

The services run on loopback: PostgreSQL, MLflow with passwords, an S3 store (moto's server), and a Ray cluster of two
raylets with tokens.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from components import network
from components.cluster.connection import LOOPBACK
from components.cluster.local import local_cluster
from components.errors import Refusal, TryLater
from components.processes import BIN
from components.runs import journal
from components.runs.description import RUN
from components.tracking import mirror, probe
from components.tracking.note import read_note
from components.tracking.points import to_mlflow_metrics
from pipelines.commands import schedule
from tests.services import ADMIN, DATABASE, SECRETS, TRAINER, Team, start_team
from tests.test_elastic import second_node
from tests.workspace import Workspace, clone

# on a busy machine the retraining alone may take longer than a test usually may
pytestmark = [pytest.mark.cluster(lane=3), pytest.mark.nodes, pytest.mark.timeout(1800)]
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

    with start_team(tmp_path_factory.mktemp("team")) as team:
        answer = requests.post(
            f"{team.address}/api/2.0/mlflow/users/create",
            json={"username": "trainer", "password": TRAINER},
            auth=("admin", ADMIN),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        yield team


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, services: Team) -> Workspace:
    workspace = clone(tmp_path_factory.mktemp("yard") / "yard", {"params.yaml": SMALL})
    workspace.environment |= services.s3
    return workspace


@pytest.fixture(scope="module")
def cluster(services: Team, workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Start a head of one CPU that other nodes may join; yield its address and that of its Jobs API."""
    port = network.free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", *LOOPBACK):
            patch.delenv(name, raising=False)
        for name, value in (services.client | services.s3 | {"PYTHONPATH": str(workspace.folder)}).items():
            patch.setenv(name, value)
        with local_cluster(cpus=1, loopback=False, jobs=port) as address:
            assert network.accepts_connections(f"127.0.0.1:{port}", 60)
            workspace.environment |= {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
            yield address, f"http://127.0.0.1:{port}"


def submit(workspace: Workspace, jobs: str, *command: str, log: Path, **environment: str) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "pipelines", "submit", f"--address={jobs}", *command]
    with log.open("w") as file:
        return subprocess.Popen(
            arguments,
            cwd=workspace.folder,
            env=workspace.environment | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def last_step(workspace: Workspace, stage: str) -> int:
    """Return the last step in the journals of a stage's runs."""
    steps = [
        record.payload["step"]
        for file in (workspace.folder / ".trainyard" / "runs").glob(f"{stage}-*/{journal.LOG}")
        for record in journal.read_records(file, "progress")
    ]
    return max(steps, default=0)


def test_a_user_without_password_is_rejected(services: Team) -> None:
    import requests

    page = f"{services.address}/api/2.0/mlflow/experiments/search?max_results=1"
    codes = [
        requests.get(page, auth=auth, timeout=30).status_code for auth in (None, ("trainer", "x"), ("trainer", TRAINER))
    ]
    assert codes == [401, 401, 200]
    assert requests.get(f"{services.address}/health", timeout=30).status_code == 200, "probes need no password"


def test_faults_of_an_account_that_last_are_refused_before_any_work(services: Team, workspace: Workspace) -> None:
    place = {"MLFLOW_TRACKING_URI": services.address}
    for command in ("run", "retrain", "plan", "rollback", "sync"):
        (workspace.folder / ".trainyard/runs").mkdir(parents=True, exist_ok=True)
        output = workspace.trainyard(command, code=2, **place)
        assert f"the tracker {services.address}: 401 " in output
        assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in output
    assert not (workspace.folder / "data/prepared").exists()


def test_doctor_asks_the_tracker_its_store_and_dvcs_remote(services: Team, workspace: Workspace) -> None:
    config = workspace.folder / ".dvc/config.local"
    config.write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = s3://trainyard/dvc\n")
    output = workspace.trainyard("doctor", **services.client)
    assert f"ok    the tracker {services.address} answers" in output
    assert "ok    DVC's remote s3://trainyard/dvc answers" in output
    output = workspace.trainyard("doctor", code=1, **services.client | {"MLFLOW_TRACKING_PASSWORD": "wrong-word-88"})
    assert f"BAD   the tracker {services.address}: 401 " in output
    config.write_text(config.read_text().replace("trainyard/dvc", "no-such-bucket"))
    output = workspace.trainyard("doctor", code=1, **services.client)
    assert re.search(r"BAD   DVC's remote s3://no-such-bucket: .*NoSuchBucket", output)
    config.unlink()


def test_faults_of_a_database_that_last_are_refused(services: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", DATABASE)
    address = f"postgresql+psycopg2://mlflow@127.0.0.1:{services.database}"
    probe.check_tracker(f"{address}/mlflow")
    revisions, newest = probe.schema_versions()
    engine = sqlalchemy.create_engine(f"{address}/mlflow", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE old"))
    engine = sqlalchemy.create_engine(f"{address}/old", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(sqlalchemy.text(f"INSERT INTO alembic_version VALUES ('{min(revisions - newest)}')"))
    with pytest.raises(Refusal, match=re.escape('run: mlflow db upgrade "$MLFLOW_TRACKING_URI"') + "$"):
        probe.check_tracker(f"{address}/old")
    with pytest.raises(Refusal, match='"nowhere" does not exist; check'):
        probe.check_tracker(f"{address}/nowhere")
    with pytest.raises(TryLater, match="Connection refused"):
        probe.check_tracker(f"postgresql+psycopg2://mlflow@127.0.0.1:{network.free_port()}/mlflow")
    monkeypatch.setenv("PGPASSWORD", "wrong-word-88")
    with pytest.raises(Refusal, match="password authentication failed"):
        probe.check_tracker(f"{address}/mlflow")


def test_a_wrong_token_is_rejected(workspace: Workspace, cluster: tuple[str, str]) -> None:
    output = workspace.trainyard("submit", f"--address={cluster[1]}", "summary", code=2, RAY_AUTH_TOKEN="0" * 64)
    assert re.fullmatch(r"trainyard: http\S+ refuses our token: .*\n", output)


def test_the_exit_code_of_a_job_is_that_of_its_command(workspace: Workspace, cluster: tuple[str, str]) -> None:
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:1"}  # Ray's client would prefer it to the address of the argument
    output = workspace.trainyard("submit", f"--address={cluster[1]}", "plan", "nowhere.yaml", code=2, **elsewhere)
    assert "nowhere.yaml" in output


@pytest.fixture(scope="module")
def retrained(workspace: Workspace, cluster: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the log of a retraining that lost one of its two nodes during pretraining."""
    folder = tmp_path_factory.mktemp("job")
    log = folder / "log"
    with second_node(cluster[0], folder):
        job = submit(workspace, cluster[1], *schedule.COMMAND, log=log, TRAINYARD_WORKERS="1:2")
        until = time.monotonic() + 600
        while last_step(workspace, "pretrain") < 20:
            assert job.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
    lost_at = last_step(workspace, "pretrain")
    assert job.wait(900) == 0, log.read_text()
    assert not (workspace.folder / "models/pretrain").is_dir() or last_step(workspace, "pretrain") > lost_at, "too late"
    return log.read_text()


def test_the_job_survives_a_lost_node(workspace: Workspace, retrained: str) -> None:
    assert "job raysubmit" in retrained
    assert 0.3 < workspace.json("metrics/evaluate.json")["accuracy"] <= 1


def test_postgres_has_every_point_once(
    services: Team, workspace: Workspace, retrained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.client.items():
        monkeypatch.setenv(name, value)
    runs = workspace.folder / ".trainyard" / "runs"
    mirror.Mirror(runs).send()  # what a busy server had not taken when the job ended
    points = []
    for file in runs.rglob(RUN):
        run = read_note(file.parent).run
        records = [record for log in file.parent.glob("*.log") for record in journal.read_records(log)]
        points += [(run, m.key, m.step, m.value, m.timestamp) for record in records for m in to_mlflow_metrics(record)]
    stored = services.query("SELECT run_uuid, key, step, value, timestamp FROM metrics")
    assert len(stored) > 500
    assert sorted(stored) == sorted(set(points))
    stages = {row[0] for row in services.query("SELECT value FROM tags WHERE key = 'trainyard.stage'")}
    assert {"pipeline", "pretrain", "tune", "finetune", "evaluate"} <= stages
    assert services.query("SELECT name, version FROM model_versions") == [("glyphs-to-digits", 1)]


def test_the_alias_moved_once(services: Team, workspace: Workspace, retrained: str) -> None:
    assert services.query("SELECT alias, version FROM registered_model_aliases") == [("champion", 1)]
    kinds = [record.kind for record in journal.read_records(workspace.folder / "promotions" / "ledger.log")]
    assert kinds == ["decided", "moved", "audited"]


def test_the_store_has_the_files(services: Team, retrained: str) -> None:
    keys = services.list_keys("mlflow/")
    assert any(key.endswith("/index.html") for key in keys)
    assert any(key.endswith("/weights.safetensors") for key in keys)


def test_no_password_is_written_anywhere(services: Team, workspace: Workspace, retrained: str) -> None:
    """No password is in the database (it has hashes), the store, the work folder, the report, a log or an argument."""
    tables = services.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 20
    texts = {
        table: "\n".join(row[0] for row in services.query(f'SELECT t::text FROM "{table}" t')) for (table,) in tables
    }
    texts["job"] = retrained
    client = services.make_s3_client()
    for key in services.list_keys("mlflow/"):
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
    assert len(services.list_keys("dvc/")) > 10
    for folder in (".dvc/cache", "models", "data/prepared"):
        shutil.rmtree(workspace.folder / folder)
    workspace.run(dvc, "pull", "--allow-missing")  # the outputs of other pipelines, which never ran, are missing
    assert workspace.bytes("models", "data/prepared") == before
    assert "Running stage" not in workspace.run(dvc, "repro", "--dry")


def test_a_new_object_below_a_prefix_is_new_data(services: Team, workspace: Workspace, retrained: str) -> None:
    """`dvc update`, which `retrain --update` calls, fetches it into data/raw; DVC then runs `prepare` again."""
    client, dvc = services.make_s3_client(), str(BIN / "dvc")
    client.put_object(Bucket=services.bucket, Key="incoming/a/1.txt", Body=b"a")
    workspace.run(dvc, "import-url", f"s3://{services.bucket}/incoming", "data/raw/incoming")
    workspace.run(dvc, "commit", "--force", "prepare")  # as after a run with the first object alone
    assert "up to date" in workspace.run(dvc, "status", "data/raw/incoming.dvc", "prepare")
    client.put_object(Bucket=services.bucket, Key="incoming/b/2.txt", Body=b"b")
    assert "incoming" in workspace.run(dvc, "status", "data/raw/incoming.dvc")
    assert "Running stage" not in workspace.run(dvc, "repro", "--dry", "prepare"), "the object is not fetched yet"
    workspace.run(dvc, "update", "data/raw/incoming.dvc")
    assert (workspace.folder / "data/raw/incoming/b/2.txt").read_bytes() == b"b"
    assert "Running stage 'prepare'" in workspace.run(dvc, "repro", "--dry", "prepare")
