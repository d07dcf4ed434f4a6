"""Decisions about the served model, and carrying them out: written down first, then the alias moves, then the audit.

    promotions/ledger.log     one checksummed JSON line an event, only ever appended to (components/runs/journal.py):
                              decided -> moved (or overruled) -> audited, tied together by `id`
    promotions/<id>/          the page of a decision

A process killed between two lines leaves a decision that the next `retrain` carries on with: the alias moves once.
A person who moves the alias instead overrules it.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from typing import Any

from components.errors import Refusal, TryLater, first_line
from components.runs import journal
from components.runs.journal import STAGE_LOG, Journal, Record
from components.tracking import mirror
from components.tracking.registry import Registry, Version
from components.workspace import repository_root, runs_folder
from pipelines.stage.provenance import provenance

Decision = dict[str, Any]  # {id, action, model, promote, reasons, from, to, values, params, hashes, by, ...}


class Ledger:
    def __init__(self) -> None:
        self.folder = repository_root() / "promotions"
        self.path = self.folder / "ledger.log"
        self.records: list[Record] = journal.read_records(self.path)
        whole = self.path.read_bytes().count(b"\n") if self.path.is_file() else 0
        if whole != len(self.records):
            raise Refusal(f"{self.path}: line {len(self.records) + 1} is damaged; restore the file, or move it away")

    def write(self, kind: str, **payload: Any) -> None:
        lines = Journal(self.path)  # cuts off the half line of a write that was killed
        lines.write(kind, **payload)
        lines.sync()
        lines.file.close()
        self.records = journal.read_records(self.path)

    def decide(self, decision: Decision) -> Decision:
        """Notes a decision, once: it is carried out, or overruled, whatever happens next."""
        if not self.has("decided", decision["id"]):
            self.write("decided", **decision, by=requester(), tags=provenance())
        return decision

    def has(self, kind: str, id: str) -> bool:
        return any(record.kind == kind and record.payload["id"] == id for record in self.records)

    def decisions(self, moved: bool = False) -> list[Decision]:
        """Oldest first; with `moved` those alone that moved the alias."""
        found = [record.payload for record in self.records if record.kind == "decided"]
        return [d for d in found if not moved or self.has("moved", d["id"])]

    def pending(self) -> list[Decision]:
        return [decision for decision in self.decisions() if not self.has("audited", decision["id"])]


def settle(ledger: Ledger, registry: Registry, decision: Decision, overrule: bool = False) -> bool:
    """Carries a decision out, from wherever it was left; whether it moved the alias, or had no need to.

    overrule: move nothing; a decision whose alias has not moved yet never will.
    """
    id = decision["id"]
    if decision["promote"] and not ledger.has("moved", id) and not ledger.has("overruled", id):
        now = registry.champion()
        if now is not None and now.number == decision["to"]["version"]:
            ledger.write("moved", id=id)  # the alias had moved, and nobody was left to say so
        elif not overrule and (now.number if now else None) == (decision["from"] or {}).get("version"):
            registry.set_champion(registry.version(decision["to"]["version"]))
            ledger.write("moved", id=id)
        else:
            ledger.write("overruled", id=id, champion=now.number if now else None)
    audit(ledger, decision)
    return not decision["promote"] or ledger.has("moved", id)


def audit(ledger: Ledger, decision: Decision) -> None:
    """The decision as a run at MLflow; raises Later while the tracker is away, and is repeated then."""
    id = decision["id"]
    if ledger.has("audited", id):
        return
    written = next(r.payload for r in ledger.records if r.kind == "decided" and r.payload["id"] == id)
    result = "overruled" if ledger.has("overruled", id) else "promoted" if decision["promote"] else "kept"
    result = "refused" if decision["action"] == "data" else result
    folder = runs_folder() / f"promotion-{id}"
    tags = {
        "trainyard.stage": "promotion",
        "trainyard.key": id,
        "mlflow.source.name": "pipelines/commands/promotion/retrain.py",
    }
    tags |= {"action": decision["action"], "result": result, "by": written["by"], **written["tags"]}
    for end in ("from", "to"):
        if decision[end]:
            tags |= {f"{end}.version": decision[end]["version"], f"{end}.digest": decision[end]["digest"]}
    tags |= {f"sha256.{name}": value for name, value in decision["hashes"].items()}
    inputs = [{"name": name, "digest": digest} for name, digest in decision["hashes"].items() if "/" in name]
    journal.describe_run(
        folder, f"{decision['action']} {id}", decision["model"], None, decision["params"], tags, inputs
    )
    lines = Journal(folder / STAGE_LOG, position=0)
    lines.write("begin", stage="promotion")
    lines.write("metric", step=0, values={k: v for k, v in decision["values"].items() if v is not None})
    lines.write("text", text="\n".join([f"{decision['action']}: {result}", *decision["reasons"]]))
    for file in sorted((ledger.folder / id).glob("*")):
        lines.write("artifact", path=str(file.resolve()), folder="")
    lines.write("end", status="FINISHED")
    try:
        mirror.Mirror(folder).send()
    except Exception as error:
        reason = first_line(error)
        raise TryLater(
            f"the tracker did not take the audit record ({reason}); it is kept, and sent the next time"
        ) from None
    ledger.write("audited", id=id)


def describe_version(found: Version | None) -> dict[str, str] | None:
    return {"version": found.number, "digest": found.digest} if found else None


def requester() -> str:
    """TRAINYARD_BY, or who runs this, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    return os.environ.get("TRAINYARD_BY") or f"{user}@{socket.gethostname()}"


def timestamp() -> str:
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())
