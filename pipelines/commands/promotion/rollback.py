"""`trainyard rollback` and `trainyard promote`: a person moves the alias; recorded like the gate's decisions."""

from __future__ import annotations

from components.errors import Refusal
from components.recipes import recipe
from components.tracking.registry import Registry, Version, model_name
from pipelines.commands.promotion.alert import send_alert
from pipelines.commands.promotion.ledger import Decision, Ledger, describe_version, settle, timestamp
from pipelines.stage.lock import hold_lock


def main(to: str | None, because: str | None) -> int:
    """Make the previous champion, or version `to`, the champion; return an exit code."""
    return move_alias("rollback", to, because or "no reason given")


def promote(to: str, because: str) -> int:
    """Make version `to` the champion without the gate; return an exit code."""
    return move_alias("promote", to, because)


def move_alias(action: str, to: str | None, because: str) -> int:
    """Overrule pending decisions, then move the alias to version `to` (None: the previous champion)."""
    name = model_name(recipe.load("params.yaml"))
    with hold_lock("retrain", wait=False):
        ledger = Ledger()
        registry = Registry(name)
        version = registry.version(to) if to is not None else None
        overrule_pending(ledger, registry, action)
        champion = registry.champion()
        if version is None:
            version = find_version(registry, previous_champion(ledger, name, champion))
        if champion is not None and champion.number == version.number:
            raise Refusal(f"version {champion.number} is the champion already; name another with --to")
        registry.check_bytes(version)
        decision: Decision = {
            "id": f"{timestamp()}-{action}",
            "action": action,
            "model": name,
            "promote": True,
            "reasons": [because],
            "from": describe_version(champion),
            "to": describe_version(version),
            "values": {},
            "params": {},
            "hashes": {},
        }
        ledger.record_decision(decision)
        if not settle(ledger, registry, decision):
            raise Refusal(f"{action}: somebody else moved the alias in the meantime; check it, and try again")
    before = f", before it was {champion.number}" if champion else ""
    print(f"{action}: version {version.number} is the champion{before}")
    send_alert("rolled back" if action == "rollback" else "promoted", decision)
    return 0


def overrule_pending(ledger: Ledger, registry: Registry, action: str) -> None:
    """Complete the model's unfinished decisions without moving the alias."""
    for decision in ledger.pending_decisions():
        if decision["model"] == registry.name and not settle(ledger, registry, decision, overrule=True):
            number = decision["to"]["version"]
            print(f"{action}: version {number} had won, but was not the champion yet; it will not be promoted")


def find_version(registry: Registry, description: dict[str, str]) -> Version:
    """Return the version that a decision describes; raise Refusal if another one has its number now."""
    version = registry.version(description["version"])
    if version.digest and version.digest != description["digest"]:  # a missing one is refused with the bytes
        raise Refusal(
            f"{registry.name} version {version.number}: is not the model that was the champion before (another "
            "tracker, or a registry that was made again?); name a version with --to"
        )
    return version


def previous_champion(ledger: Ledger, model: str, champion: Version | None) -> dict[str, str]:
    """Return what the ledger says about the version that was replaced when the present champion was promoted.

    A rollback to the champion does not count as its promotion. Raise Refusal if the ledger knows no such version.
    """
    moves = [decision for decision in ledger.decisions(moved=True) if decision["model"] == model]
    for decision in reversed(moves):
        is_promotion = (
            champion is not None and decision["to"]["version"] == champion.number and decision["action"] != "rollback"
        )
        if is_promotion and decision["from"]:
            previous: dict[str, str] = decision["from"]
            return previous
        if is_promotion:
            break
    raise Refusal(f"{ledger.path}: has no champion before this one; name a version with --to")
