"""The services that a team shares, started on loopback: PostgreSQL, an S3 store (moto), MLflow with passwords."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components import network
from tests.workspace import BIN

# Passwords that may appear nowhere.
ADMIN = "admin-secret-9f2c"
TRAINER = "trainer-secret-7a1d"
DATABASE = "database-secret-3e8b"
STORE = "store-secret-5b6f"
SECRETS = (ADMIN, TRAINER, DATABASE, STORE)


@contextmanager
def run_process(
    command: list[str], log: Path, environment: dict[str, str], user: str | None = None
) -> Iterator[subprocess.Popen]:
    """Run a process in its own process group while the block runs."""
    identity = {"user": user, "group": user, "extra_groups": []} if user else {}
    with log.open("a") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=log.parent, start_new_session=True, **identity
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT if "postgres" in command[0] else signal.SIGKILL)
        process.wait(30)


def wait_for(process: subprocess.Popen, port: int, log: Path, patience: float = 120) -> None:
    """Wait until the process accepts connections; fail if it ends or `patience` seconds pass."""
    until = time.monotonic() + patience
    while not network.accepts_connections(f"127.0.0.1:{port}"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


@contextmanager
def postgres(port: int) -> Iterator[None]:
    """Run PostgreSQL with a database `mlflow` of the user `mlflow`, whose password is DATABASE; never as root."""
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[-3]))
    if not servers:
        pytest.skip("no PostgreSQL on this machine (apt-get install postgresql)")
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="trainyard-postgres-") as name:
        folder = Path(name)
        secret = folder / "secret"
        secret.write_text(DATABASE)
        if user:
            for path in (folder, secret):
                shutil.chown(path, user, user)
        initdb = [str(servers[-1].with_name("initdb")), f"--pgdata={folder}/data", "--username=mlflow", "--no-sync"]
        initdb += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
        identity = {"user": user, "group": user, "extra_groups": []} if user else {}
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **identity)
        command = [str(servers[-1]), "-D", f"{folder}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with run_process(command, folder / "log", dict(os.environ), user) as process:
            wait_for(process, port, folder / "log")
            create_database(port)
            yield


def create_database(port: int, patience: float = 30) -> None:
    """Create the database `mlflow` as soon as the server accepts a login."""
    import psycopg2

    until = time.monotonic() + patience
    while True:
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user="mlflow", password=DATABASE, dbname="postgres"
            )
            break
        except psycopg2.OperationalError:  # the server is still starting
            assert time.monotonic() < until
            time.sleep(0.2)
    connection.autocommit = True
    connection.cursor().execute("CREATE DATABASE mlflow")
    connection.close()


@dataclass
class Team:
    """The ports and settings of a team's services."""

    folder: Path
    database: int = field(default_factory=network.free_port)
    store: int = field(default_factory=network.free_port)
    tracker: int = field(default_factory=network.free_port)
    bucket: str = "trainyard"

    @property
    def s3(self) -> dict[str, str]:
        """Return the environment that gives access to the store."""
        return {
            "AWS_ACCESS_KEY_ID": "trainyard",
            "AWS_SECRET_ACCESS_KEY": STORE,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.store}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.store}",
        }

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment of `trainyard tracker`."""
        return self.s3 | {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql://mlflow@127.0.0.1:{self.database}/mlflow",
            "PGPASSWORD": DATABASE,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{self.bucket}/mlflow",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs-forms-0123456789",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        }

    @property
    def address(self) -> str:
        """Return the tracker's address."""
        return f"http://127.0.0.1:{self.tracker}"

    @property
    def client(self) -> dict[str, str]:
        """Return the environment of a user who trains."""
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": "trainer",
            "MLFLOW_TRACKING_PASSWORD": TRAINER,
        }

    def query(self, sql: str) -> list[tuple]:
        """Return the rows of a query of the database."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.database, user="mlflow", password=DATABASE, dbname="mlflow"
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys of the objects in the store that begin with `prefix`."""
        pages = self.make_s3_client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def make_s3_client(self):  # type: ignore[no-untyped-def]
        """Return boto3's client of the store."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.s3["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="trainyard",
            aws_secret_access_key=STORE,
        )


@contextmanager
def start_team(folder: Path) -> Iterator[Team]:
    """Start all services; `trainyard tracker` serves MLflow."""
    services = Team(folder)
    with ExitStack() as stack:
        stack.enter_context(postgres(services.database))
        for name, port, command in (
            ("moto", services.store, [str(BIN / "moto_server"), "--host=127.0.0.1", f"--port={services.store}"]),
            (
                "tracker",
                services.tracker,
                [sys.executable, "-m", "pipelines", "tracker", f"--port={services.tracker}", "--workers=1"],
            ),
        ):
            log = folder / f"{name}.log"
            wait_for(stack.enter_context(run_process(command, log, os.environ | services.settings)), port, log)
        yield services
