"""`trainyard tracker`: the team's MLflow server. Runs in PostgreSQL, files in an object store, passwords.

Its settings are environment variables, most of them MLflow's own; secrets are nowhere else, least of all among the
arguments, which every process of the machine can read:

    MLFLOW_BACKEND_STORE_URI        postgresql://USER@HOST/DATABASE; the password in PGPASSWORD (or PGPASSFILE)
    MLFLOW_ARTIFACTS_DESTINATION    s3://BUCKET/PREFIX; the bucket is made where there is none
    MLFLOW_S3_ENDPOINT_URL          where the store is no Amazon; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as usual
    MLFLOW_FLASK_SERVER_SECRET_KEY  signs the forms of its pages
    MLFLOW_AUTH_ADMIN_PASSWORD      of the user `admin`, who is made at the first start
    MLFLOW_SERVER_ALLOWED_HOSTS     the names it is called by, where they are not loopback or private addresses
"""

from __future__ import annotations

import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from components import network
from components.errors import Refusal
from components.tracking import server

STORE, FILES = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
SECRETS = {"MLFLOW_FLASK_SERVER_SECRET_KEY": 16, "MLFLOW_AUTH_ADMIN_PASSWORD": 12}  # least lengths; 12 is MLflow's own
PERMISSION = "READ"  # of everybody on what others made
REMEMBERED = (
    60  # seconds that a worker takes a password it has checked for good: hashing it costs more than most requests
)


def main(host: str, port: int, workers: int) -> int:
    settings = write_settings(os.environ)
    os.environ[STORE] = name_driver(os.environ[STORE])
    if network.accepts_connections(f"{host}:{port}"):
        raise Refusal(f"tracker: port {port} is taken: stop what uses it, or choose another with --port")
    make_bucket(os.environ[FILES])
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(settings)
    command = server.server_command(port, host=host, workers=workers, passwords=True)
    os.execv(command[0], command)  # the server takes this process's place, and its signals


def write_settings(environment: Mapping[str, str]) -> Path:
    """The file of MLflow's settings for passwords, which names the database; refuses what would not start, or leak."""
    for name, example in ((STORE, "postgresql://mlflow@postgres/mlflow"), (FILES, "s3://trainyard/mlflow")):
        if "://" not in environment.get(name, ""):
            raise Refusal(f"tracker: {name}={environment.get(name, '')}: set it to an address such as {example}")
    if urllib.parse.urlsplit(environment[STORE]).password:
        raise Refusal(f"tracker: {STORE} holds a password; put it into PGPASSWORD: addresses are logged")
    for name, least in SECRETS.items():
        if len(environment.get(name, "")) < least:
            raise Refusal(f"tracker: {name}: set it to {least} random characters at least (openssl rand -hex 24)")
    file = Path(tempfile.mkdtemp(prefix="trainyard-tracker-"), "auth.ini")
    store = name_driver(environment[STORE]).replace("%", "%%")
    settings = {"default_permission": PERMISSION, "database_uri": store, "admin_username": "admin"}
    settings["auth_cache_ttl_seconds"] = str(REMEMBERED)
    file.write_text("[mlflow]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return file


def name_driver(address: str) -> str:
    """SQLAlchemy 2.1 takes postgresql:// for psycopg 3; what the lock file installs is psycopg2."""
    return address.replace("postgresql://", "postgresql+psycopg2://", 1)


def make_bucket(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "s3":
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    try:
        try:
            client.head_bucket(Bucket=parts.netloc)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            client.create_bucket(Bucket=parts.netloc)
    except (BotoCoreError, ClientError) as error:
        raise Refusal(f"tracker: {FILES}={address}: {error}") from None
