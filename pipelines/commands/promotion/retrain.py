"""`trainyard retrain`: what a schedule calls. Nothing changed: says so, in seconds. Else data checks, `dvc repro` on
the cluster, challenger against champion on the same held-out examples; the alias moves if the gate says so.

Whenever it is killed, the champion is the old one, or the same command completes the move; see ledger.py.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from components.cluster import connection, spread
from components.errors import Refusal, Stopped, TryLater, first_line
from components.files import path_digest
from components.processes import BIN
from components.recipes import recipe
from components.storage.store import Store
from components.tracking import mirror
from components.tracking.registry import Registry, Version
from components.verdicts import drift
from components.verdicts.gate import Candidate, Gate, Verdict, judge_challenger
from components.workspace import runs_folder, work_folder
from pipelines.commands.dvc import repro, status
from pipelines.commands.dvc.repro import run_on_local_cluster
from pipelines.commands.promotion.alert import send_alert
from pipelines.commands.promotion.ledger import Decision, Ledger, describe_version, settle
from pipelines.flagship import SOURCE_PREPARED, TARGET_AUGMENTED, TARGET_PREPARED, list_models, served_model
from pipelines.stage.check import check_flagship
from pipelines.stage.lock import hold_lock
from pipelines.stage.provenance import code_digest

SPLIT = "test"
PATIENCE = 60.0  # seconds for the registry to show what the mirror has sent
REFUSED = 4  # exit code: the data checks said no

Params = dict[str, Any]


def main(update: bool = False, wait: bool = False) -> int:
    params = recipe.load("params.yaml")  # which also says who is told: whatever fails from here on, they hear of
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # stages call `python`: this environment's
    with hold_lock("retrain", wait):  # who declines, since another is at it, has nothing to tell
        try:
            check_flagship(params)
            return retrain(params, Ledger(), update)
        except (KeyboardInterrupt, Stopped):
            raise
        except Exception as error:
            send_alert("failed", {"model": params.get("name"), "reasons": [f"{type(error).__name__}: {error}"]})
            raise


def retrain(params: Params, ledger: Ledger, update: bool) -> int:
    for unfinished in ledger.pending():
        conclude(ledger, Registry(unfinished["model"]), unfinished)
    if update:
        print(f"retrain: updated {', '.join(status.update_imports()) or 'nothing: no source is imported'}", flush=True)
    reasons = status.list_changes()
    if not reasons and ledger.has("decided", key(params)):
        print("retrain: nothing changed since the last decision: nothing to do")
        return 0
    for reason in reasons:
        print(f"retrain: changed: {reason}", flush=True)
    registry = Registry(params["name"])
    champion = registry.champion()
    try:
        known = str(registry.fetch(champion, work_folder() / "champions")) if champion else None
        contest = run_on_local_cluster(lambda: contested(params, ledger, registry, champion, known))
        if not all(finding.fine for finding in contest.findings):
            return refuse(params, ledger, registry, champion, contest.findings, known)
        if contest.challenger is None:
            print("retrain: the same bytes came out, and they were judged before: nothing to decide")
            return 0
        from pipelines.reports import report

        report.write_report()  # now that the seconds of all stages are known, and all runs sent
        decision = decided(params, ledger, champion, contest.challenger, contest.found, contest.findings, known)
    finally:
        shutil.rmtree(work_folder() / "champions", ignore_errors=True)
    ledger.decide(decision)
    conclude(ledger, registry, decision)
    return 0


@dataclass(frozen=True)
class Contest:
    """Checks of the data; where those are fine, a model not judged before; what both models said."""

    findings: list[drift.Finding]
    challenger: Version | None = None
    found: dict[str, dict[str, Any]] = field(default_factory=dict)


def contested(
    params: Params, ledger: Ledger, registry: Registry, champion: Version | None, known: str | None
) -> Contest:
    """What is done on the cluster, and can be done again: data prepared and checked, a challenger trained, measured."""
    repro.reproduce_or_refuse("augment")
    findings = checked(params, known)
    if not all(finding.fine for finding in findings):
        return Contest(findings)
    repro.reproduce_or_refuse()
    if ledger.has("decided", key(params)):
        return Contest(findings)
    challenger = registered(registry, path_digest(model()))
    return Contest(findings, challenger, measured(champion, challenger, known))


# ------------------------------------------------------------------------------------------------ data


def checked(params: Params, known: str | None) -> list[drift.Finding]:
    """The checks of new data, told one a line; known: the champion's exported folder."""
    record = json.loads((Path(known) / "model.json").read_text()) if known else None
    limits = drift.Limits(**section(params, "data"))
    findings = drift.check_data(limits, Store(TARGET_PREPARED).manifest, statistics().get("profile"), record)
    for finding in findings:
        print(f"retrain: data: {'fine' if finding.fine else 'BAD '}  {finding.check}: {finding.text}", flush=True)
    return findings


def refuse(
    params: Params,
    ledger: Ledger,
    registry: Registry,
    champion: Version | None,
    findings: list[drift.Finding],
    known: str | None,
) -> int:
    """Records, once for the same data, that they were refused; the champion stays."""
    bad = [f"{finding.check}: {finding.text}" for finding in findings if not finding.fine]
    id = f"data-{recipe.digest([Store(TARGET_PREPARED).manifest['digest'], bad])[:12]}"
    decision = described(params, id, "data", champion, champion, [asdict(finding) for finding in findings])
    decision |= {"promote": False, "reasons": bad}
    if not ledger.has("decided", id):
        show(params, ledger, decision, {}, known)
    ledger.decide(decision)
    print(f"retrain: refused to train on these data: {'; '.join(bad)}; the champion stays (limits: retrain.data)")
    settle(ledger, registry, decision)
    send_alert("refused", decision)
    return REFUSED


# ------------------------------------------------------------------------------------------------ the contest


def model() -> Path:
    """The exported model that the stage `evaluate` registers: the first seed's."""
    return served_model()


def key(params: Params) -> str:
    """What a decision is about: these bytes on these held-out examples by this gate; empty before there is a model."""
    if not list_models("finetuned") or not Path(TARGET_PREPARED, "manifest.json").is_file():
        return ""
    return recipe.digest([path_digest(model()), held_out(), section(params, "gate")])[:12]


def held_out() -> str:
    return recipe.digest([part["sha256"] for part in Store(TARGET_PREPARED).manifest["splits"][SPLIT]["parts"]])


def registered(registry: Registry, wanted: str) -> Version:
    """The version that holds the trained model, once the mirror has sent it; what other runs fail by is no concern of
    it, and another mirror may be sending this one: it is waited for."""
    until = monotonic() + PATIENCE
    while True:
        reason = None
        try:
            mirror.Mirror(runs_folder()).send()
        except Exception as error:
            reason = first_line(error)
        if (found := registry.find_by_digest(wanted)) is not None:
            return found
        if monotonic() > until:
            if reason is not None:
                raise TryLater(f"the tracker did not take the new model ({reason}); the champion stays as it is")
            raise Refusal(f"{registry.name}: no version with the bytes of {model()}; dvc repro --force evaluate")
        sleep(1)


def measured(champion: Version | None, challenger: Version, known: str | None) -> dict[str, dict[str, Any]]:
    """What both said on the held-out examples; nothing where the challenger is the champion itself."""
    if champion is not None and champion.digest == challenger.digest:
        return {}
    models = {"challenger": str(model())} | ({"champion": known} if known else {})
    found: dict[str, dict[str, Any]] = spread.run_on_workers(
        "pipelines.commands.promotion.contest.measure_models",
        models,
        TARGET_PREPARED,
        SPLIT,
        name="retrain",
        folder=work_folder() / "ray",
    )
    connection.disconnect()
    return found


def decided(
    params: Params,
    ledger: Ledger,
    champion: Version | None,
    challenger: Version,
    found: dict[str, dict[str, Any]],
    findings: list[drift.Finding],
    known: str | None,
) -> Decision:
    """The gate's verdict as a decision, with its page; nothing is moved yet."""
    decision = described(
        params, key(params), "retrain", champion, challenger, [asdict(finding) for finding in findings]
    )
    if not found:
        same = "the trained model is the champion's, byte for byte"
        return decision | {"promote": False, "reasons": [same]}
    gate, truth = Gate(**section(params, "gate")), Store(TARGET_PREPARED).split(SPLIT).array("label")
    candidates = {
        role: Candidate(said["outcomes"], said["predicted"], said["latency_ms"], said["megabytes"])
        for role, said in found.items()
    }
    score = found["challenger"]["monitor"]
    classes = Store(TARGET_PREPARED).manifest["classes"]
    verdict = judge_challenger(gate, candidates["challenger"], candidates.get("champion"), truth, classes, score)
    decision |= said(verdict, found)
    show(params, ledger, decision, found, known)
    return decision


def said(verdict: Verdict, found: dict[str, dict[str, Any]]) -> Decision:
    names = ("score", "champion_score", "gain", "low", "high", "p_value")
    values = {name: getattr(verdict, name) for name in names}
    values |= {f"{name}_examples": len(getattr(verdict, name)) for name in ("won", "lost")}
    for role, given in found.items():
        values |= {f"{role}.{name}": given[name] for name in ("latency_ms", "megabytes")}
        values |= {f"{role}.{name}": value for name, value in given["scores"].items()}
    facts = {"promote": verdict.promote, "reasons": list(verdict.reasons), "values": values}
    return facts | {"classes": list(verdict.classes), "won": list(verdict.won), "lost": list(verdict.lost)}


def show(
    params: Params, ledger: Ledger, decision: Decision, found: dict[str, dict[str, Any]], known: str | None
) -> None:
    """Writes the decision's page into its folder."""
    from pipelines.commands.promotion import page

    store, old = Store(TARGET_PREPARED), decision["from"]["version"] if decision["from"] else None
    profiles = {"champion": recorded(known) if known else {}, "challenger": statistics()}
    moves = [d for d in ledger.decisions(moved=True) if d["model"] == decision["model"]]
    before = [d["id"] for d in moves if d["to"]["version"] == old]
    page.write_page(
        ledger.folder / decision["id"],
        decision,
        found,
        Gate(**section(params, "gate")),
        store.split(SPLIT),
        store.manifest["classes"],
        {role: found.get("profile") for role, found in profiles.items()},
        ledger.folder / before[0] if before else None,
    )


def recorded(known: str) -> dict[str, Any]:
    """The statistics that the champion was exported with."""
    found: dict[str, Any] = json.loads((Path(known) / "model.json").read_text())["statistics"]
    return found


def statistics() -> dict[str, Any]:
    """Of the training split as it is prepared now."""
    found: dict[str, Any] = json.loads((Path(TARGET_AUGMENTED) / "statistics.json").read_text())
    return found


def described(
    params: Params,
    id: str,
    action: str,
    champion: Version | None,
    challenger: Version | None,
    findings: list[dict[str, Any]],
) -> Decision:
    """All of a decision but the verdict."""
    hashes = {path: str(Store(path).manifest["digest"]) for path in (SOURCE_PREPARED, TARGET_PREPARED)}
    hashes |= {f"{TARGET_PREPARED} {SPLIT}": held_out(), "code": code_digest(), "params": recipe.digest(params)}
    return {
        "id": id,
        "action": action,
        "model": params["name"],
        "from": describe_version(champion),
        "to": describe_version(challenger),
        "values": {},
        "params": recipe.flatten({"gate": asdict(Gate(**section(params, "gate")))}),
        "hashes": hashes,
        "data": findings,
    }


def conclude(ledger: Ledger, registry: Registry, decision: Decision) -> None:
    """Carries a decision out, and tells of it."""
    moved = settle(ledger, registry, decision)
    number = decision["to"]["version"] if decision["to"] else "?"
    if decision["promote"] and moved:
        outcome, told = "promoted", f"version {number} is the champion now"
    elif decision["promote"]:
        outcome, told = "kept", f"version {number} had won, but the alias was moved by somebody else meanwhile"
    else:
        outcome, told = "kept", "the champion stays" if decision["from"] else "no champion yet"
    print(f"retrain: {told}\n  " + "\n  ".join(decision["reasons"]), flush=True)
    send_alert({"data": "refused"}.get(decision["action"], outcome), decision)


def section(params: Params, name: str) -> dict[str, Any]:
    found: dict[str, Any] = params.get("retrain", {}).get(name, {})
    return found
