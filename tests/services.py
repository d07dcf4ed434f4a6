"""What a team shares, started for a test on loopback: PostgreSQL, an S3 store (moto), MLflow with passwords."""

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

ADMIN, TRAINER = "admin-secret-9f2c", "trainer-secret-7a1d"  # passwords that must be seen nowhere
DATABASE = "database-secret-3e8b"
STORE = "store-secret-5b6f"
SECRETS = (ADMIN, TRAINER, DATABASE, STORE)


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str], user: str | None = None
) -> Iterator[subprocess.Popen]:
    """A process of its own group while the block runs."""
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    with log.open("a") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=log.parent, start_new_session=True, **who
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT if "postgres" in command[0] else signal.SIGKILL)
        process.wait(30)


def wait_for(process: subprocess.Popen, port: int, log: Path, patience: float = 120) -> None:
    until = time.monotonic() + patience
    while not network.accepts_connections(f"127.0.0.1:{port}"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


@contextmanager
def postgres(port: int) -> Iterator[None]:
    """A cluster with the one database `mlflow` of the user `mlflow`, who needs DATABASE; never run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL on this machine (apt-get install postgresql)")
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="trainyard-postgres-") as name:
        folder = Path(name)
        secret = folder / "secret"
        secret.write_text(DATABASE)
        if user:
            for path in (folder, secret):
                shutil.chown(path, user, user)
        make = [str(found[-1].with_name("initdb")), f"--pgdata={folder}/data", "--username=mlflow", "--no-sync"]
        make += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
        who = {"user": user, "group": user, "extra_groups": []} if user else {}
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **who)
        command = [str(found[-1]), "-D", f"{folder}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with running(command, folder / "log", dict(os.environ), user) as process:
            wait_for(process, port, folder / "log")
            create_database(port)
            yield


def create_database(port: int, patience: float = 30) -> None:
    import psycopg2

    until = time.monotonic() + patience
    while True:
        try:
            link = psycopg2.connect(host="127.0.0.1", port=port, user="mlflow", password=DATABASE, dbname="postgres")
            break
        except psycopg2.OperationalError:  # it is still starting
            assert time.monotonic() < until
            time.sleep(0.2)
    link.autocommit = True
    link.cursor().execute("CREATE DATABASE mlflow")
    link.close()


@dataclass
class Team:
    folder: Path
    database: int = field(default_factory=network.free_port)
    store: int = field(default_factory=network.free_port)
    tracker: int = field(default_factory=network.free_port)
    bucket: str = "trainyard"

    @property
    def s3(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "trainyard",
            "AWS_SECRET_ACCESS_KEY": STORE,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.store}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.store}",
        }

    @property
    def settings(self) -> dict[str, str]:
        """Of `trainyard tracker`."""
        return self.s3 | {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql://mlflow@127.0.0.1:{self.database}/mlflow",
            "PGPASSWORD": DATABASE,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{self.bucket}/mlflow",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs-forms-0123456789",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.tracker}"

    @property
    def client(self) -> dict[str, str]:
        """Of who trains."""
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": "trainer",
            "MLFLOW_TRACKING_PASSWORD": TRAINER,
        }

    def sql(self, query: str) -> list[tuple]:
        import psycopg2

        link = psycopg2.connect(host="127.0.0.1", port=self.database, user="mlflow", password=DATABASE, dbname="mlflow")
        try:
            with link.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall()
        finally:
            link.close()

    def keys(self, prefix: str) -> list[str]:
        pages = self.boto().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def boto(self):  # type: ignore[no-untyped-def]
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
    """All of it; `trainyard tracker` serves MLflow."""
    made = Team(folder)
    with ExitStack() as stack:
        stack.enter_context(postgres(made.database))
        for name, port, command in (
            ("moto", made.store, [str(BIN / "moto_server"), "--host=127.0.0.1", f"--port={made.store}"]),
            (
                "tracker",
                made.tracker,
                [sys.executable, "-m", "pipelines", "tracker", f"--port={made.tracker}", "--workers=1"],
            ),
        ):
            log = folder / f"{name}.log"
            wait_for(stack.enter_context(running(command, log, os.environ | made.settings)), port, log)
        yield made
