"""`trainyard tracker`: run the team's MLflow server, with runs in PostgreSQL, files in an object store, and passwords.

All settings are environment variables, most of them MLflow's own. Secrets are never arguments, because every process
of the machine can read those:

    MLFLOW_BACKEND_STORE_URI        postgresql://USER@HOST/DATABASE; the password in PGPASSWORD (or PGPASSFILE)
    MLFLOW_ARTIFACTS_DESTINATION    s3://BUCKET/PREFIX; a missing bucket is created
    MLFLOW_S3_ENDPOINT_URL          of a store other than Amazon's; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as usual
    MLFLOW_FLASK_SERVER_SECRET_KEY  signs the forms of its pages
    MLFLOW_AUTH_ADMIN_PASSWORD      of the user `admin`, who is created at the first start
    MLFLOW_SERVER_ALLOWED_HOSTS     names of the server other than loopback and private addresses
"""

from __future__ import annotations

import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from typing import Any

from components import network
from components.errors import Refusal
from components.processes import process_group
from components.safe_text import CREDENTIALS, QUERY_VALUE
from components.tracking import probe, server

STORE = "MLFLOW_BACKEND_STORE_URI"
FILES = "MLFLOW_ARTIFACTS_DESTINATION"
SECRETS = {"MLFLOW_FLASK_SERVER_SECRET_KEY": 16, "MLFLOW_AUTH_ADMIN_PASSWORD": 12}  # minimum lengths; 12 is MLflow's
PERMISSION = "READ"  # of every user on other users' experiments and models
PASSWORD_CACHE_SECONDS = 60  # checking a password's hash again costs more than most requests


def main(host: str, port: int, workers: int) -> int:
    """Check the settings, serve until interrupted, and return the server's exit code."""
    settings = render_settings(os.environ)
    os.environ[STORE] = name_driver(os.environ[STORE])
    if network.accepts_connections(network.join_address(host, port)):
        raise Refusal(f"tracker: port {port} is taken: stop what uses it, or choose another with --port")
    probe.check_tracker(os.environ[STORE])
    make_bucket(os.environ[FILES])
    command = server.server_command(port, host=host, workers=workers, passwords=True)
    with tempfile.NamedTemporaryFile("w", prefix="trainyard-tracker-", suffix=".ini") as file:
        file.write(settings)
        file.flush()
        os.environ["MLFLOW_AUTH_CONFIG_PATH"] = file.name
        with process_group(command) as process:
            return process.wait()


def render_settings(environment: Mapping[str, str]) -> str:
    """Return the text of MLflow's file of settings for passwords, which names the database.

    Raise Refusal if a variable is missing, a secret is too short, or an address contains a password.
    """
    for name, example in ((STORE, "postgresql://mlflow@postgres/mlflow"), (FILES, "s3://trainyard/mlflow")):
        if "://" not in environment.get(name, ""):
            raise Refusal(f"tracker: {name}={environment.get(name, '')}: set it to an address such as {example}")
    user = CREDENTIALS.match(environment[STORE])
    if (user and ":" in user[2]) or QUERY_VALUE.search(environment[STORE]):
        raise Refusal(f"tracker: {STORE} holds a password; put it into PGPASSWORD: addresses are logged")
    for name, length in SECRETS.items():
        if len(environment.get(name, "")) < length:
            raise Refusal(f"tracker: {name}: set it to {length} random characters at least (openssl rand -hex 24)")
    settings = {
        "default_permission": PERMISSION,
        "database_uri": name_driver(environment[STORE]).replace("%", "%%"),
        "admin_username": "admin",
        "auth_cache_ttl_seconds": str(PASSWORD_CACHE_SECONDS),
    }
    return "[mlflow]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def name_driver(address: str) -> str:
    """Return the database address with psycopg2, which the lock file installs; SQLAlchemy 2.1 prefers psycopg 3."""
    return address.replace("postgresql://", "postgresql+psycopg2://", 1)


def make_bucket(address: str) -> None:
    """Create the bucket of an s3:// address if it does not exist, in the region of the environment."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "s3":
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
        try:
            client.head_bucket(Bucket=parts.netloc)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            options: dict[str, Any] = {}
            if client.meta.region_name not in (None, "us-east-1", "aws-global"):  # S3 wants every region but its first
                options["CreateBucketConfiguration"] = {"LocationConstraint": client.meta.region_name}
            client.create_bucket(Bucket=parts.netloc, **options)
    except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: boto3 takes no such endpoint
        raise Refusal(f"tracker: {FILES}={address}: {error}") from None
