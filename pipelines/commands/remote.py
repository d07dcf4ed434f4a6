"""Check DVC's default remote with a request, for `trainyard doctor`."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from components.errors import first_line
from components.safe_text import hide_credentials
from pipelines.commands.machine import BAD, NOTE, OK, Line

CONFIG = (Path(".dvc/config"), Path(".dvc/config.local"))
SECONDS = 10  # in which a store must answer


def check_remote() -> Iterator[Line]:
    """Check an object store or a folder; other remotes, and repositories without one, give no line."""
    settings = ConfigParser(interpolation=None)
    try:
        settings.read(CONFIG)
    except ConfigError as error:
        yield BAD, f".dvc/config: {first_line(error)}; correct it"
        return
    name = settings.get("core", "remote", fallback="")
    section = f"'remote \"{name}\"'"
    if not name:
        return
    if not settings.has_section(section):
        yield BAD, f".dvc/config: core.remote names '{name}', which is not there; dvc remote add --default {name} URL"
        return
    remote = dict(settings[section])
    address = remote.get("url", "")
    if address.startswith("s3://"):
        yield from _check_bucket(address, remote)
    elif "://" not in address:
        folder = (CONFIG[0].parent / address).resolve()
        if folder.is_dir() and os.access(folder, os.W_OK):
            yield OK, f"DVC's remote {folder} can be written"
        else:
            yield BAD, f"DVC's remote {folder} is not a folder that can be written: mount it, or make it"


def _check_bucket(address: str, remote: dict[str, str]) -> Iterator[Line]:
    parts = urllib.parse.urlsplit(address)
    place = f"DVC's remote {hide_credentials(address)}"
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        yield NOTE, f"{place}: boto3 is not installed, so it was not checked: make env"
        return
    options = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key"}
    options |= {"endpoint_url": "endpointurl", "region_name": "region"}
    arguments = {option: remote[setting] for option, setting in options.items() if setting in remote}
    patience = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1})
    try:
        boto3.client("s3", config=patience, **arguments).list_objects_v2(Bucket=parts.netloc, MaxKeys=1)
    except (BotoCoreError, ClientError, ValueError) as error:
        yield (
            BAD,
            f"{place}: {hide_credentials(first_line(error))}: check its address, AWS_ACCESS_KEY_ID and the key",
        )
    else:
        yield OK, f"{place} answers"
