"""The tracker refuses bad settings in one line, and creates its bucket in the region that the environment names."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import Refusal
from pipelines.commands import tracker
from tests.object_store import KEYS, serve_objects

SETTINGS = dict.fromkeys(tracker.SECRETS, "0123456789abcdef") | {tracker.FILES: "s3://bucket/mlflow"}


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://mlflow:canary@postgres/mlflow",
        "postgresql://mlflow:can/ary@postgres/mlflow",
        "postgresql://postgres/mlflow?user=mlflow&password=canary",
        "postgresql://mlflow:canary@[::1/mlflow",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(Refusal, match="holds a password; put it into PGPASSWORD") as refusal:
        tracker.render_settings(SETTINGS | {tracker.STORE: address})
    assert "ary" not in str(refusal.value)


def test_an_address_without_a_password_is_taken() -> None:
    text = tracker.render_settings(SETTINGS | {tracker.STORE: "postgresql://mlflow@[::1]:5432/mlflow"})
    assert "postgresql+psycopg2://mlflow@[::1]:5432/mlflow" in text


def test_a_missing_bucket_is_created_in_every_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serve_objects(tmp_path) as port:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for region in ("us-east-1", "eu-west-1"):
            monkeypatch.setenv("AWS_DEFAULT_REGION", region)
            for _ in range(2):
                tracker.make_bucket(f"s3://bucket-{region}/mlflow")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "s3:7070")
    with pytest.raises(Refusal, match="Invalid endpoint: s3:7070"):
        tracker.make_bucket("s3://bucket/mlflow")
