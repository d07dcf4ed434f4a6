"""`trainyard rollback` and `trainyard promote`: a person moves the alias, and says why; recorded as the gate's are."""

from __future__ import annotations

from components.errors import Refusal
from components.recipes import recipe
from components.tracking.registry import Registry, Version, model_name
from components.workspace import work_folder
from pipelines.commands.promotion.alert import send_alert
from pipelines.commands.promotion.ledger import Decision, Ledger, describe_version, settle, timestamp
from pipelines.stage.lock import hold_lock


def main(to: str | None, because: str | None) -> int:
    """Back to the champion before, or to version `to`."""
    return move_alias("rollback", to, because or "no reason given")


def promote(to: str, because: str) -> int:
    return move_alias("promote", to, because)


def move_alias(action: str, to: str | None, because: str) -> int:
    name = model_name(recipe.load("params.yaml"))
    with hold_lock("retrain", wait=False):
        ledger, registry = Ledger(), Registry(name)
        wanted = registry.version(to) if to is not None else None
        for unfinished in [decision for decision in ledger.pending() if decision["model"] == name]:
            if not settle(ledger, registry, unfinished, overrule=True):
                number = unfinished["to"]["version"]
                print(f"{action}: version {number} had won, but was not made the champion yet: now it will not be")
        now = registry.champion()
        wanted = wanted or registry.version(previous_champion(ledger, name, now))
        if now is not None and now.number == wanted.number:
            raise Refusal(f"version {now.number} is the champion already; name another with --to")
        registry.fetch(wanted, work_folder() / "champions")
        decision: Decision = {
            "id": f"{timestamp()}-{action}",
            "action": action,
            "model": name,
            "promote": True,
            "reasons": [because],
            "from": describe_version(now),
            "to": describe_version(wanted),
            "values": {},
            "params": {},
            "hashes": {},
        }
        ledger.decide(decision)
        if not settle(ledger, registry, decision):
            raise Refusal(f"{action}: the alias was moved by somebody else meanwhile; look, and try again")
    told = f"{action}: version {wanted.number} is the champion{f', before it was {now.number}' if now else ''}"
    print(told)
    send_alert("rolled back" if action == "rollback" else "promoted", decision)
    return 0


def previous_champion(ledger: Ledger, model: str, now: Version | None) -> str:
    """The number of the model's version that held the alias before the present champion got it."""
    moves = [decision for decision in ledger.decisions(moved=True) if decision["model"] == model]
    for decision in reversed(moves):
        given = now is not None and decision["to"]["version"] == now.number and decision["action"] != "rollback"
        if given and decision["from"]:
            return str(decision["from"]["version"])
        if given:
            break
    raise Refusal(f"{ledger.path}: knows no champion before this one; name a version with --to")
