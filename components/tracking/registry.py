"""Read and promote the versions of one registered model at MLflow; the alias `champion` names the version in service.

The mirror works in the background, but these calls must succeed: whatever fails at the tracker is raised as TryLater,
and nothing has changed then. A version is downloaded as it was exported, safetensors and JSON: nothing is unpickled.
Its digest is over bytes, whatever the folder holds. A version without a digest is never fetched or promoted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import Refusal, TryLater
from ..files import atomic_path, bytes_digest
from . import probe, server

ALIAS = "champion"
FORBIDDEN = ("PERMISSION_DENIED", "UNAUTHENTICATED")
# MLflow's codes of faults that the same request would meet again
LASTING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")


class WrongBytes(Refusal):
    """A version's stored bytes are not those that its digest was computed from, or it has no digest."""


class MissingVersion(Refusal):
    """The model has no version with this number, such as after somebody deleted it."""


@dataclass(frozen=True)
class Version:
    """One registered version of the model."""

    number: str
    digest: str  # SHA-256 of the exported folder; empty if it was not recorded
    run: str  # MLflow's id of the run that registered it
    source: str


@dataclass(frozen=True)
class Origin:
    """The origin of a version, as MLflow records it."""

    params: dict[str, str]  # of its pipeline: dotted name -> value as text
    tags: dict[str, str]  # of the run that registered it
    inputs: dict[str, str]  # data of that run -> the first 32 digits of their digest
    metrics: dict[str, float]  # of its pipeline


def model_name(params: dict[str, Any]) -> str:
    """Return the name of the model, and of its experiment, from the content of params.yaml."""
    name = params.get("name")
    if not isinstance(name, str) or not name:
        raise Refusal("params.yaml: name: must be the registered model's name; it is missing or not a text")
    return name


class Registry:
    """The versions of the model `name` at the tracker of the environment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uri = server.tracking_uri()
        try:
            probe.check_tracker(self.uri)
        except TryLater as later:
            raise TryLater(f"{later}; the champion stays as it is") from None
        with self._requests():
            self.client = server.make_client(self.uri)

    def champion(self) -> Version | None:
        """Return the version that the alias names, or None if there is no such model or alias yet."""
        with self._requests():
            model = next(iter(self.client.search_registered_models(f"name = '{self.name}'", max_results=1)), None)
            if model is None or ALIAS not in model.aliases:
                return None
            return self.version(str(model.aliases[ALIAS]))

    def version(self, number: str) -> Version:
        """Return the version with this number; raise MissingVersion if there is none."""
        with self._requests():
            versions = self.versions()
        for version in versions:
            if version.number == number:
                return version
        numbers = ", ".join(version.number for version in versions) or "none"
        raise MissingVersion(f"{self.name} has no version {number}; it has: {numbers}")

    def versions(self) -> list[Version]:
        """Return all versions, oldest first."""
        with self._requests():
            versions: list[Any] = []
            token = None
            while token != "":
                page = self.client.search_model_versions(f"name = '{self.name}'", page_token=token)
                versions += page
                token = page.token or ""
            versions.sort(key=lambda version: int(version.version))
            return [Version(str(v.version), v.tags.get("digest", ""), v.run_id, v.source) for v in versions]

    def newest(self) -> Version:
        """Return the version registered last; raise Refusal if there is none."""
        versions = self.versions()
        if not versions:
            raise Refusal(f"{self.name} has no version yet; `trainyard run` registers one")
        return versions[-1]

    def origin(self, version: Version) -> Origin:
        """Return parameters, tags, inputs and metrics of the run that registered a version and of its pipeline."""
        with self._requests():
            run = self.client.get_run(version.run)
            pipeline = self.client.get_run(run.data.tags.get("mlflow.parentRunId", version.run))
        inputs = {data.dataset.name: data.dataset.digest for data in run.inputs.dataset_inputs}
        metrics = {name: value for name, value in pipeline.data.metrics.items() if not name.startswith("system/")}
        # MLflow logs a model's configuration, the digest, among the parameters of the run that made it
        params = {name: value for name, value in pipeline.data.params.items() if name != "digest"}
        return Origin(params, run.data.tags, inputs, metrics)

    def find_by_digest(self, digest: str) -> Version | None:
        """Return the first version that was registered with these bytes."""
        return next((version for version in self.versions() if version.digest == digest), None)

    def set_champion(self, version: Version) -> None:
        """Move the alias to a version, in one transaction of the tracker, after a check of the bytes stored there."""
        self.check_bytes(version)
        with self._requests():
            self.client.set_registered_model_alias(self.name, ALIAS, version.number)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Return the version's exported folder below `folder`; download it if it is not there.

        Raise WrongBytes if its bytes differ from those that were registered, or if no digest of them was recorded.
        """
        title = f"{self.name} version {version.number}"
        if not version.digest:
            raise WrongBytes(
                f"{title}: has no tag 'digest', so this project did not register it; if another tool uses the name, "
                f"set another `name` in params.yaml; otherwise promote another version, or delete the alias '{ALIAS}'"
            )
        model = self._download(version, folder)
        if bytes_digest(model) != version.digest:
            raise WrongBytes(f"{title}: its stored bytes have changed; promote another version")
        return model

    def check_bytes(self, version: Version) -> None:
        """Download a version anew and check its bytes, like `fetch`."""
        with tempfile.TemporaryDirectory(prefix="trainyard-version-") as folder:
            self.fetch(version, Path(folder))

    def _download(self, version: Version, folder: Path) -> Path:
        place = folder / f"{self.name}-{version.number}"
        if not place.is_dir():
            import mlflow

            with atomic_path(place) as draft, self._requests():
                draft.mkdir()
                mlflow.set_tracking_uri(self.uri)
                uri = self.client.get_model_version_download_uri(self.name, version.number)
                for part in ("MLmodel", "artifacts"):
                    mlflow.artifacts.download_artifacts(f"{uri}/{part}", dst_path=str(draft))
        try:
            record = yaml.safe_load((place / "MLmodel").read_text())
            model = place / record["flavors"]["python_function"]["artifacts"]["model"]["path"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            raise WrongBytes(
                f"{self.name} version {version.number}: is not a model that this project registered; "
                f"promote another version, or delete the alias '{ALIAS}'"
            ) from None
        if not model.resolve().is_relative_to(place.resolve()):
            raise Refusal(f"{place}/MLmodel: names a folder outside; register the version again")
        return model

    @contextmanager
    def _requests(self) -> Iterator[None]:
        """Translate errors of MLflow, the network or a database into TryLater, or into Refusal without permission."""
        try:
            yield
        except (Refusal, TryLater):
            raise
        except Exception as error:
            place = server.hide_credentials(self.uri)
            reason = server.explain_failure(error)
            code = getattr(error, "error_code", None)
            if code in FORBIDDEN:
                raise Refusal(f"the tracker {place} refuses: {reason}; check the account") from None
            if code in LASTING:
                raise Refusal(f"the tracker {place}: {reason}; look at {self.name} there (trainyard ui)") from None
            raise TryLater(f"the tracker {place}: {reason}; the champion stays as it is") from None
