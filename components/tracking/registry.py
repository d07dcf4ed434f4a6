"""Versions of one registered model at MLflow, and the alias `champion`: which of them is served.

Unlike the mirror (tracking.py), which nobody waits for, this is asked and must answer: whatever goes wrong there is
raised as Later, and nothing has changed. A version's folder is fetched as it was exported, safetensors and JSON:
nothing is unpickled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .. import network
from ..errors import Refusal, TryLater, first_line
from . import server

ALIAS = "champion"
PATIENCE = 10.0  # seconds that a server may need to accept a connection
FORBIDDEN = ("PERMISSION_DENIED", "UNAUTHENTICATED")


@dataclass(frozen=True)
class Version:
    number: str
    digest: str  # SHA-256 of the exported folder
    run: str  # MLflow's id of the run that registered it
    source: str


@dataclass(frozen=True)
class Origin:
    """What MLflow has of where a version comes from."""

    params: dict[str, str]  # of its pipeline, dotted; values as texts
    tags: dict[str, str]  # of the run that registered it
    inputs: dict[str, str]  # data of that run -> the first 32 digits of their digest
    metrics: dict[str, float]  # of its pipeline


def model_name(params: dict[str, Any]) -> str:
    """The model's name (and its experiment's) in the content of params.yaml."""
    name = params.get("name")
    if not isinstance(name, str) or not name:
        raise Refusal("params.yaml: name: must be the registered model's name; it is missing or no text")
    return name


class Registry:
    """The versions of the model `name` at the tracker that `tracker.uri` names."""

    def __init__(self, name: str) -> None:
        self.name, self.uri = name, server.tracking_uri()
        if self.uri.startswith("http") and not network.accepts_connections(network.host_and_port(self.uri), PATIENCE):
            raise TryLater(
                f"the tracker {server.hide_credentials(self.uri)} does not answer; the champion stays as it is"
            )
        with self._asked():
            self.client = server.make_client(self.uri)

    def champion(self) -> Version | None:
        """The version behind the alias; None where there is no such model or alias yet."""
        with self._asked():
            model = next(iter(self.client.search_registered_models(f"name = '{self.name}'", max_results=1)), None)
            if model is None or ALIAS not in model.aliases:
                return None
            return self.version(str(model.aliases[ALIAS]))

    def version(self, number: str) -> Version:
        with self._asked():
            found = [one for one in self.versions() if one.number == number]
        if not found:
            known = ", ".join(one.number for one in self.versions()) or "none"
            raise Refusal(f"{self.name} has no version {number}; it has: {known}")
        return found[0]

    def versions(self) -> list[Version]:
        """All of them, oldest first."""
        with self._asked():
            found: list[Any] = []
            token = None
            while token != "":
                page = self.client.search_model_versions(f"name = '{self.name}'", page_token=token)
                found, token = found + list(page), page.token or ""
            found.sort(key=lambda one: int(one.version))
            return [Version(str(v.version), v.tags.get("digest", ""), v.run_id, v.source) for v in found]

    def newest(self) -> Version:
        if not (found := self.versions()):
            raise Refusal(f"{self.name} has no version yet; `trainyard run` registers one")
        return found[-1]

    def origin(self, version: Version) -> Origin:
        with self._asked():
            run = self.client.get_run(version.run)
            above = self.client.get_run(run.data.tags.get("mlflow.parentRunId", version.run))
        inputs = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
        scores = {name: value for name, value in above.data.metrics.items() if not name.startswith("system/")}
        return Origin(above.data.params, run.data.tags, inputs, scores)

    def find_by_digest(self, digest: str) -> Version | None:
        """The first version that was registered with these bytes."""
        return next((one for one in self.versions() if one.digest == digest), None)

    def set_champion(self, version: Version) -> None:
        """Moves the alias: one transaction of the tracker's."""
        with self._asked():
            self.client.set_registered_model_alias(self.name, ALIAS, version.number)

    def fetch(self, version: Version, folder: Path) -> Path:
        """The exported model, below `folder`, downloaded unless it is there."""
        place = folder / f"{self.name}-{version.number}"
        if not place.is_dir():
            import mlflow

            folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".fetch-"))
            try:
                with self._asked():
                    mlflow.set_tracking_uri(self.uri)
                    uri = self.client.get_model_version_download_uri(self.name, version.number)
                    for part in ("MLmodel", "artifacts"):
                        mlflow.artifacts.download_artifacts(f"{uri}/{part}", dst_path=str(draft))
                draft.replace(place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        record = yaml.safe_load((place / "MLmodel").read_text())
        found = place / record["flavors"]["python_function"]["artifacts"]["model"]["path"]
        if not found.resolve().is_relative_to(place.resolve()):
            raise Refusal(f"{place}/MLmodel: names a folder outside; register the version again")
        return found

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (Refusal, TryLater):
            raise
        except Exception as error:  # MLflow's, of the network, of a database
            reason = first_line(error)
            if getattr(error, "error_code", None) in FORBIDDEN:
                raise Refusal(
                    f"the tracker {server.hide_credentials(self.uri)} refuses: {reason}; check the account"
                ) from None
            raise TryLater(
                f"the tracker {server.hide_credentials(self.uri)}: {reason}; the champion stays as it is"
            ) from None
