"""Copies of a run's folder in an object store, from which another machine can go on.

    ADDRESS/NAME/content/SHA256          the bytes of a file
    ADDRESS/NAME/version-00000120.json   path, digest and size of each file of the run when step 120 was saved

A version is written after its files, so it is complete. The newest two are kept. TRAINYARD_RUNS holds the address;
without it nothing is copied.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import Refusal, TryLater
from ..files import atomic_path
from ..runs.journal import LOG, merge_journal
from ..storage.object_store import Missing, ObjectStore, check_address
from ..workspace import runs_folder
from .checkpoint import MAX_CHECKPOINTS

VARIABLE = "TRAINYARD_RUNS"
SEND_PATIENCE = 10.0  # seconds for which a store that fails delays a run; the next checkpoint tries again
log = logging.getLogger(__name__)


class RunCopies:
    """The copies of one run, called `name`, below `address`."""

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name = address, name
        self.has_sent = False

    @classmethod
    def from_environment(cls, folder: Path) -> RunCopies | None:
        """Return the copies of the run in `folder`, or None where none are kept: only runs below runs_folder() are."""
        address = os.environ.get(VARIABLE)
        if not address or not folder.resolve().is_relative_to(runs_folder().resolve()):
            return None
        try:
            check_address(address)
        except Refusal as refusal:
            raise Refusal(f"{VARIABLE}: {refusal}") from None
        return cls(address, str(folder.resolve().relative_to(runs_folder().resolve())))

    def send(self, checkpoint: Path, step: int) -> str | None:
        """Send a checkpoint and the journal beside it; return None, or the fault for which it stays here alone.

        A store that fails is left for the next checkpoint, even if the fault lasts, such as keys that have expired.
        Raise Refusal for one that lasts before anything was sent: the address or the keys were wrong from the start.
        """
        folder = checkpoint.parent
        store = ObjectStore(self.address, SEND_PATIENCE)
        consequence = f"the checkpoint of step {step} stays on this machine alone"
        try:
            files = {}
            for file in (*sorted(checkpoint.iterdir()), folder / LOG):
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                self._send_content(store, digest, content)
                files[str(file.relative_to(folder))] = [digest, len(content)]
            text = json.dumps({"checkpoint": checkpoint.name, "files": files}, sort_keys=True).encode()
            store.write(f"{self.name}/{_version_name(step)}", text)
            self.has_sent = True
            consequence = "older checkpoints stay in the store"
            self._remove_old(store)
        except (TryLater, Refusal) as fault:
            if isinstance(fault, Refusal) and not self.has_sent:
                raise
            return f"{consequence}: {fault}"
        return None

    def newest(self) -> int | None:
        """Return the step of the newest version, or None if there is none."""
        versions = self._versions(ObjectStore(self.address))
        return _step(versions[0]) if versions else None

    def fetch(self, folder: Path) -> None:
        """Put the newest valid version into `folder`; what the journal there holds already is not repeated."""
        store = ObjectStore(self.address)
        folder.mkdir(parents=True, exist_ok=True)
        for version in self._versions(store):
            try:
                index = json.loads(store.read(f"{self.name}/{version}", 0, 1 << 20))
                self._fetch_files(store, index, folder)
                return
            except (ValueError, LookupError, TypeError, AttributeError, Missing) as error:
                log.warning(
                    "%s/%s/%s is damaged (%s): using the version before it", self.address, self.name, version, error
                )

    def _fetch_files(self, store: ObjectStore, index: dict[str, Any], folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as name:
            for path in (index["checkpoint"], *index["files"]):
                if not Path(name, path).resolve().is_relative_to(Path(name).resolve()):
                    raise ValueError(f"the file {path!r} is outside the run")
            for path, (digest, size) in index["files"].items():
                target = Path(name, path)
                target.parent.mkdir(exist_ok=True)
                if store.fetch(f"{self.name}/content/{digest}", target, size) != digest:
                    raise ValueError(f"{path} fails its checksum")
            merge_journal(folder / LOG, Path(name, LOG))
            with atomic_path(folder / index["checkpoint"], Path(name, index["checkpoint"])):
                pass

    def _send_content(self, store: ObjectStore, digest: str, content: bytes) -> None:
        name = f"{self.name}/content/{digest}"
        if store.size(name) != len(content):
            store.write(name, content)

    def _versions(self, store: ObjectStore) -> list[str]:
        """Return the names of all versions, newest first."""
        return sorted((name for name in store.sizes(self.name) if name.startswith("version-")), reverse=True)

    def _remove_old(self, store: ObjectStore) -> None:
        """Remove all but the newest versions, damaged ones, and content that no remaining version has."""
        remaining = 0
        current: set[str] = set()
        for version in self._versions(store):
            digests = self._content_digests(store, version) if remaining < MAX_CHECKPOINTS else None
            if digests is None:
                store.delete(f"{self.name}/{version}")
            else:
                remaining += 1
                current |= digests
        for digest in store.sizes(f"{self.name}/content").keys() - current:
            store.delete(f"{self.name}/content/{digest}")

    def _content_digests(self, store: ObjectStore, version: str) -> set[str] | None:
        """Return the digests of a version's files, or None if the version is damaged."""
        try:
            index = json.loads(store.read(f"{self.name}/{version}", 0, 1 << 20))
            return {str(digest) for digest, _ in index["files"].values()}
        except (ValueError, LookupError, TypeError, AttributeError, Missing):
            return None


def _version_name(step: int) -> str:
    return f"version-{step:08d}.json"


def _step(version: str) -> int:
    return int(version.removeprefix("version-").removesuffix(".json"))
