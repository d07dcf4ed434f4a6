"""`trainyard rollback` and `trainyard promote`: a person moves the alias, and says why; recorded as the gate's are."""

from __future__ import annotations

from components import recipe
from components.refusal import Refusal
from components.registry import Registry, Version
from pipelines.alert import tell
from pipelines.ledger import Decision, Ledger, settle, stamp, version
from pipelines.stage import alone, digest, work


def main(to: str | None, because: str | None) -> int:
    """Back to the champion before, or to version `to`."""
    return move("rollback", to, because or "no reason given")


def promote(to: str, because: str) -> int:
    return move("promote", to, because)


def move(action: str, to: str | None, because: str) -> int:
    name = recipe.load("params.yaml")["name"]
    with alone("retrain", wait=False):
        ledger, registry = Ledger(), Registry(name)
        for unfinished in ledger.pending():
            settle(ledger, registry, unfinished)
        now = registry.champion()
        if to is None:
            to = before(ledger, now)
        wanted = registry.version(to)
        if now is not None and now.number == wanted.number:
            raise Refusal(f"version {to} is the champion already; name another with --to")
        intact(registry, wanted)
        decision: Decision = {
            "id": f"{stamp()}-{action}",
            "action": action,
            "model": name,
            "promote": True,
            "reasons": [because],
            "from": version(now),
            "to": version(wanted),
            "values": {},
            "params": {},
            "hashes": {},
        }
        ledger.decide(decision)
        if not settle(ledger, registry, decision):
            raise Refusal(f"{action}: the alias was moved by somebody else meanwhile; look, and try again")
    told = f"{action}: version {wanted.number} is the champion{f', before it was {now.number}' if now else ''}"
    print(told)
    tell("rolled back" if action == "rollback" else "promoted", decision)
    return 0


def before(ledger: Ledger, now: Version | None) -> str:
    """The number of the version that held the alias before the present champion got it."""
    for decision in reversed(ledger.decisions(moved=True)):
        given = now is not None and decision["to"]["version"] == now.number and decision["action"] != "rollback"
        if given and decision["from"]:
            return str(decision["from"]["version"])
        if given:
            break
    raise Refusal(f"{ledger.path}: knows no champion before this one; name a version with --to")


def intact(registry: Registry, wanted: Version) -> str:
    """The fetched folder of a version, refused unless its bytes are those it was registered with."""
    folder = registry.fetch(wanted, work() / "champions")
    if wanted.digest and digest(folder) != wanted.digest:
        raise Refusal(
            f"{registry.name} version {wanted.number}: its stored bytes have changed; promote another version"
        )
    return str(folder)
