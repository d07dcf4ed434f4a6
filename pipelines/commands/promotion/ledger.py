"""Record decisions about the served model and carry them out: first the record, then the alias, then the audit.

    promotions/ledger.log     one checksummed JSON line per event, only ever appended to (see runs/journal.py):
                              decided -> moved (or overruled) -> audited, linked by `id`
    promotions/<id>/          the page of a decision

A process killed between two lines leaves a decision that the next `retrain` continues, so the alias moves exactly
once. A person who moves the alias instead overrules the decision.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from typing import Any

from components.errors import Refusal, TryLater
from components.recipes import recipe
from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal, Record
from components.tracking import mirror, server
from components.tracking.registry import ALIAS, MissingVersion, Registry, Version, WrongBytes
from components.workspace import repository_root, runs_folder
from pipelines.stage.provenance import provenance

Decision = dict[str, Any]  # {id, action, model, promote, reasons, from, to, values, params, hashes, by, ...}


class Ledger:
    """The file of all decisions and of what became of them."""

    def __init__(self) -> None:
        """Read the ledger; raise Refusal if a line is damaged."""
        self.folder = repository_root() / "promotions"
        self.path = self.folder / "ledger.log"
        self.records: list[Record] = journal.read_records(self.path)
        complete_lines = self.path.read_bytes().count(b"\n") if self.path.is_file() else 0
        if complete_lines != len(self.records):
            raise Refusal(f"{self.path}: line {len(self.records) + 1} is damaged; restore the file, or move it away")

    def write(self, kind: str, **payload: Any) -> None:
        """Append a line and flush it to the disk."""
        lines = Journal(self.path)  # drops an incomplete last line, left by a killed process
        lines.write(kind, **payload)
        lines.sync()
        lines.file.close()
        self.records = journal.read_records(self.path)

    def record_decision(self, decision: Decision) -> None:
        """Record a decision once; from then on it is either carried out or overruled."""
        if not self.has_record("decided", decision["id"]):
            self.write("decided", **decision, by=requester(), tags=provenance())

    def has_record(self, kind: str, id: str) -> bool:
        """Return whether the decision `id` has a line of this kind."""
        return any(record.kind == kind and record.payload["id"] == id for record in self.records)

    def own_id(self, id: str, model: str) -> str:
        """Return `id`, or another one if it belongs to a decision about a registered model of another name."""
        is_taken = any(decision["id"] == id and decision["model"] != model for decision in self.decisions())
        return recipe.digest([id, model])[:12] if is_taken else id

    def decisions(self, moved: bool = False) -> list[Decision]:
        """Return all decisions, oldest first; with `moved` only those that moved the alias."""
        decisions = [record.payload for record in self.records if record.kind == "decided"]
        return [decision for decision in decisions if not moved or self.has_record("moved", decision["id"])]

    def pending_decisions(self) -> list[Decision]:
        """Return the decisions that are not carried out and audited yet."""
        return [decision for decision in self.decisions() if not self.has_record("audited", decision["id"])]


def refuse_lost_alias(ledger: Ledger, registry: Registry) -> None:
    """Raise Refusal if a version was the champion and none is now: any model would win, without a comparison."""
    moves = [decision for decision in ledger.decisions(moved=True) if decision["model"] == registry.name]
    if not moves or registry.champion() is not None:
        return
    last = moves[-1]["to"]
    version = registry.find_by_digest(last["digest"])
    if version is not None:
        remedy = f"trainyard promote {version.number} --because TEXT"
    else:
        remedy = "trainyard sync registers this checkout's versions at a new tracker; then trainyard promote VERSION"
    raise Refusal(
        f"{registry.name}: the alias '{ALIAS}' is gone, which version {last['version']} had; there is no champion to "
        f"compare with: {remedy}; to begin without one, move {ledger.path} away"
    )


def settle(ledger: Ledger, registry: Registry, decision: Decision, overrule: bool = False) -> bool:
    """Carry a decision out, from whatever point it had reached.

    overrule: move nothing, so that a decision whose alias has not moved yet never moves it. Return False if the
    decision promotes a version but somebody else moved the alias first.
    """
    id = decision["id"]
    if decision["promote"] and not ledger.has_record("moved", id) and not ledger.has_record("overruled", id):
        champion = registry.champion()
        champion_number = champion.number if champion else None
        expected_number = (decision["from"] or {}).get("version")
        if champion_number == decision["to"]["version"]:
            ledger.write("moved", id=id)  # the process was killed after it had moved the alias
        elif not overrule and champion_number == expected_number:
            promote_judged_bytes(ledger, registry, decision)
        else:
            ledger.write("overruled", id=id, champion=champion_number)
    audit_decision(ledger, decision)
    return not decision["promote"] or ledger.has_record("moved", id)


def promote_judged_bytes(ledger: Ledger, registry: Registry, decision: Decision) -> None:
    """Move the alias to the version of a decision, if its bytes are still those that the decision is about.

    Otherwise close the decision, so that no later command carries it out, and raise WrongBytes or MissingVersion.
    """
    try:
        version = registry.version(decision["to"]["version"])
        if version.digest != decision["to"]["digest"]:
            raise WrongBytes(
                f"{registry.name} version {version.number}: its tag 'digest' has changed since the decision; "
                "promote another version"
            )
        registry.set_champion(version)
    except (WrongBytes, MissingVersion):
        champion = decision["from"]["version"] if decision["from"] else None
        ledger.write("overruled", id=decision["id"], champion=champion)
        audit_decision(ledger, decision)
        raise
    ledger.write("moved", id=decision["id"])


def audit_decision(ledger: Ledger, decision: Decision) -> None:
    """Send the decision as a run to MLflow, once; raise TryLater if the tracking server does not take it."""
    id = decision["id"]
    if ledger.has_record("audited", id):
        return
    record = next(r.payload for r in ledger.records if r.kind == "decided" and r.payload["id"] == id)
    result = _result(ledger, decision)
    folder = runs_folder() / f"promotion-{id}"
    tags = {
        "trainyard.stage": "promotion",
        "trainyard.key": id,
        "mlflow.source.name": "pipelines/commands/promotion/retrain.py",
        "action": decision["action"],
        "result": result,
        "by": record["by"],
        **record["tags"],
    }
    for end in ("from", "to"):
        if decision[end]:
            tags |= {f"{end}.version": decision[end]["version"], f"{end}.digest": decision[end]["digest"]}
    tags |= {f"sha256.{name}": value for name, value in decision["hashes"].items()}
    inputs = [{"name": name, "digest": digest} for name, digest in decision["hashes"].items() if "/" in name]
    name = f"{decision['action']} {id}"
    describe_run(folder, name, decision["model"], None, decision["params"], tags, inputs)
    lines = Journal(folder / STAGE_LOG, position=0)
    lines.write("begin", stage="promotion")
    lines.write("metric", step=0, values={name: v for name, v in decision["values"].items() if v is not None})
    lines.write("text", text="\n".join([f"{decision['action']}: {result}", *decision["reasons"]]))
    for file in sorted((ledger.folder / id).glob("*")):
        lines.write("artifact", path=os.path.relpath(file, folder), folder="")
    lines.write("end", status="FINISHED")
    try:
        mirror.Mirror(folder).send()
    except Exception as error:
        reason = server.explain_failure(error)
        raise TryLater(
            f"the tracker did not take the audit record ({reason}); it is kept and will be sent next time"
        ) from None
    ledger.write("audited", id=id)


def _result(ledger: Ledger, decision: Decision) -> str:
    """Return what became of a decision: refused, overruled, promoted or kept."""
    if decision["action"] == "data":
        return "refused"
    if ledger.has_record("overruled", decision["id"]):
        return "overruled"
    return "promoted" if decision["promote"] else "kept"


def describe_version(version: Version | None) -> dict[str, str] | None:
    """Return the fields that identify a version in a decision."""
    return {"version": version.number, "digest": version.digest} if version else None


def requester() -> str:
    """Return TRAINYARD_BY, otherwise USER@HOST of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user id may have no name
        user = str(os.getuid())
    return os.environ.get("TRAINYARD_BY") or f"{user}@{socket.gethostname()}"


def timestamp() -> str:
    """Return the current time in UTC, such as 20260131T030000."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())
