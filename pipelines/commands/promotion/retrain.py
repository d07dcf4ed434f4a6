"""`trainyard retrain`, for a schedule: train a challenger on changed inputs and promote it if the gate accepts it.

If nothing changed it ends within seconds. Otherwise it checks the data, runs `dvc repro` on the cluster, and compares
challenger and champion on the same held-out examples. Whenever it is killed, either the champion is unchanged, or the
same command completes its promotion (see ledger.py).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.cluster import connection, spread
from components.errors import Refusal, Stopped
from components.files import bytes_digest
from components.processes import BIN
from components.recipes import recipe
from components.storage.content import CONTENTS_FILE, read_digests
from components.storage.store import Store
from components.tracking import probe, server
from components.tracking.registry import Registry, Version
from components.verdicts import drift
from components.verdicts.gate import Candidate, Gate, Verdict, judge_challenger
from components.verdicts.held_out import HeldOut, leave_out_training_examples
from components.workspace import work_folder
from pipelines.commands.dvc import repro, status
from pipelines.commands.promotion.alert import send_alert
from pipelines.commands.promotion.challenger import (
    SPLIT,
    Params,
    decision_key,
    held_out_digest,
    settings,
    training_statistics,
    wait_for_version,
)
from pipelines.commands.promotion.ledger import Decision, Ledger, describe_version, refuse_lost_alias, settle
from pipelines.commands.promotion.measurement import Measurement
from pipelines.flagship import SOURCE_PREPARED, TARGET_PREPARED, served_model
from pipelines.stage.check import check_flagship
from pipelines.stage.lock import hold_lock
from pipelines.stage.provenance import code_digest

DATA_REFUSED = 4  # exit code

Measurements = dict[str, Measurement]  # role, "champion" or "challenger" -> its results


def main(update: bool = False, wait: bool = False) -> int:
    """Retrain under a lock and return an exit code; report every failure as an alert.

    update: first update imported sources. wait: wait for another retrain instead of raising TryLater.
    """
    # params.yaml also says who gets alerts: only failures from here on can be reported.
    params = recipe.load("params.yaml")
    # Stages call `python`: it must be the one of this environment.
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    with hold_lock("retrain", wait):  # outside `try`: a second retrain that gives up is not a failure
        try:
            check_flagship(params)
            probe.refuse_lasting_faults(server.tracking_uri())
            return retrain(params, Ledger(), update)
        except (KeyboardInterrupt, Stopped):
            raise
        except Exception as error:
            send_alert("failed", {"model": params.get("name"), "reasons": [f"{type(error).__name__}: {error}"]})
            raise


def retrain(params: Params, ledger: Ledger, update: bool) -> int:
    """Complete unfinished decisions; then train and decide, if anything changed since the last decision."""
    for unfinished in ledger.pending_decisions():
        conclude(ledger, Registry(unfinished["model"]), unfinished)
    if update:
        updated = ", ".join(status.update_imports()) or "nothing: no source is imported"
        print(f"retrain: updated {updated}", flush=True)
    changes = status.list_changes()
    if not changes and ledger.has_record("decided", decision_key(params, ledger)):
        print("retrain: nothing changed since the last decision: nothing to do")
        return 0
    for change in changes:
        print(f"retrain: changed: {status.shorten_change(change)}", flush=True)
    return Retraining(params, ledger, Registry(params["name"])).run()


@dataclass(frozen=True)
class Contest:
    """Result of the work on the cluster.

    findings: of the data checks. challenger: the trained model, or None if a check failed or the model was judged
    before. held_out: the examples to judge on, None if the challenger is the champion itself. measurements: of both
    models, empty if there are too few examples or the models are the same.
    """

    findings: list[drift.Finding]
    challenger: Version | None = None
    held_out: HeldOut | None = None
    measurements: Measurements = field(default_factory=dict)

    @property
    def is_data_fine(self) -> bool:
        return all(finding.fine for finding in self.findings)


class Retraining:
    """One training of a challenger, and the decision whether it replaces the champion.

    champion_folder: the champion's exported model, fetched while `run` works; None without a champion.
    """

    def __init__(self, params: Params, ledger: Ledger, registry: Registry) -> None:
        self.params = params
        self.ledger = ledger
        self.registry = registry
        self.gate = Gate(**settings(params, "gate"))
        refuse_lost_alias(ledger, registry)
        self.champion = registry.champion()
        self.champion_folder: str | None = None

    def run(self) -> int:
        """Train, judge and promote; return an exit code."""
        try:
            if self.champion is not None:
                self.champion_folder = str(self.registry.fetch(self.champion, work_folder() / "champions"))
            contest = repro.run_on_local_cluster(self.train_challenger)
            if not contest.is_data_fine:
                return self.refuse_data(contest.findings)
            if contest.challenger is None:
                print("retrain: training gave a model that was judged before: nothing to decide")
                return 0
            from pipelines.reports import report

            report.write_report()  # again, because the seconds of all stages and all runs are known only now
            decision = self.judge(contest, contest.challenger)
        finally:
            shutil.rmtree(work_folder() / "champions", ignore_errors=True)
        self.ledger.record_decision(decision)
        conclude(self.ledger, self.registry, decision)
        return 0

    # -------------------------------------------------------------------------------------------- on the cluster

    def train_challenger(self) -> Contest:
        """Prepare and check the data, train and measure; safe to repeat on another cluster."""
        repro.reproduce_or_refuse("augment")
        contest = Contest(self.check_data())
        if not contest.is_data_fine:
            return contest
        repro.reproduce_or_refuse()
        if self.ledger.has_record("decided", decision_key(self.params, self.ledger)):
            return contest
        challenger = wait_for_version(self.registry, bytes_digest(served_model()))
        if self.champion is not None and self.champion.digest == challenger.digest:
            return Contest(contest.findings, challenger)
        held_out = self.select_held_out()
        measurements = {} if self.gate.refuses(len(held_out.rows)) else self.measure(held_out, challenger)
        return Contest(contest.findings, challenger, held_out, measurements)

    def check_data(self) -> list[drift.Finding]:
        """Compare the prepared data with those of the champion, and print one line per check."""
        record = None
        if self.champion_folder is not None:
            record = json.loads((Path(self.champion_folder) / "model.json").read_text())
        limits = drift.Limits(**settings(self.params, "data"))
        profile = training_statistics().get("profile")
        findings = drift.check_data(limits, Store(TARGET_PREPARED).manifest, profile, record)
        for finding in findings:
            print(f"retrain: data: {'fine' if finding.fine else 'BAD '}  {finding.check}: {finding.text}", flush=True)
        return findings

    def list_models(self) -> dict[str, str]:
        """Return {role: folder} of the models to compare."""
        models = {"challenger": str(served_model())}
        if self.champion is not None:
            # Training took a while: check the champion's bytes again.
            models["champion"] = str(self.registry.fetch(self.champion, work_folder() / "champions"))
        return models

    def select_held_out(self) -> HeldOut:
        """Return the held-out examples that no model was trained on."""
        store = Store(TARGET_PREPARED)
        records = {role: read_digests(Path(folder) / CONTENTS_FILE) for role, folder in self.list_models().items()}
        return leave_out_training_examples(store.contents(SPLIT), len(store.split(SPLIT)), records)

    def measure(self, held_out: HeldOut, challenger: Version) -> Measurements:
        """Measure both models on the held-out examples that remain."""
        measurements: Measurements = spread.run_on_workers(
            "pipelines.commands.promotion.contest.measure_models",
            self.list_models(),
            TARGET_PREPARED,
            SPLIT,
            held_out.rows,
            name="retrain",
            folder=work_folder() / "ray",
        )
        connection.disconnect()
        if bytes_digest(served_model()) != challenger.digest:
            raise Refusal(f"{served_model()}: changed while it was measured; the champion stays; run `retrain` again")
        return measurements

    # -------------------------------------------------------------------------------------------- the decision

    def refuse_data(self, findings: list[drift.Finding]) -> int:
        """Record once per data set that the checks rejected it; the champion stays."""
        failed = [f"{finding.check}: {finding.text}" for finding in findings if not finding.fine]
        content = f"data-{recipe.digest([Store(TARGET_PREPARED).manifest['digest'], failed])[:12]}"
        id = self.ledger.own_id(content, self.params["name"])
        decision = self.describe(id, "data", self.champion, findings)
        decision |= {"promote": False, "reasons": failed}
        if not self.ledger.has_record("decided", id):
            self.write_page(decision, {})
        self.ledger.record_decision(decision)
        reasons = "; ".join(failed)
        print(f"retrain: refused to train on these data: {reasons}; the champion stays (limits: retrain.data)")
        settle(self.ledger, self.registry, decision)
        send_alert("refused", decision)
        return DATA_REFUSED

    def judge(self, contest: Contest, challenger: Version) -> Decision:
        """Return the gate's verdict as a decision, and write its page; the alias does not move yet."""
        decision = self.describe(decision_key(self.params, self.ledger), "retrain", challenger, contest.findings)
        held_out, measurements = contest.held_out, contest.measurements
        if held_out is None:
            return decision | {"promote": False, "reasons": ["the trained model is the champion's, byte for byte"]}
        decision["held_out"] = {
            "total": held_out.total,
            "judged": len(held_out.rows),
            "trained_on": held_out.trained_on,
        }
        refusal = self.gate.refuses(len(held_out.rows))
        if refusal is not None:
            decision |= {"promote": False, "reasons": [refusal, *held_out.describe()]}
        else:
            decision |= self.compare(held_out, measurements)
        self.write_page(decision, measurements, held_out)
        return decision

    def compare(self, held_out: HeldOut, measurements: Measurements) -> Decision:
        """Return the fields of a decision that hold the gate's verdict on the measurements."""
        store = Store(TARGET_PREPARED)
        candidates = {
            role: Candidate(m.outcomes, m.predicted, m.latency_ms, m.megabytes) for role, m in measurements.items()
        }
        verdict = judge_challenger(
            self.gate,
            candidates["challenger"],
            candidates.get("champion"),
            store.split(SPLIT).take(held_out.rows, ["label"])["label"],
            store.manifest["classes"],
            measurements["challenger"].monitor,
        )
        fields = verdict_fields(verdict, measurements)
        for direction in ("won", "lost"):
            fields[direction] = held_out.rows[fields[direction]].tolist()
        return fields | {"reasons": [*fields["reasons"], *held_out.describe()]}

    def describe(self, id: str, action: str, challenger: Version | None, findings: list[drift.Finding]) -> Decision:
        """Return all fields of a decision except its verdict."""
        hashes = {path: str(Store(path).manifest["digest"]) for path in (SOURCE_PREPARED, TARGET_PREPARED)}
        hashes |= {
            f"{TARGET_PREPARED} {SPLIT}": held_out_digest(),
            "code": code_digest(),
            "params": recipe.digest(self.params),
        }
        return {
            "id": id,
            "action": action,
            "model": self.params["name"],
            "from": describe_version(self.champion),
            "to": describe_version(challenger),
            "values": {},
            "params": recipe.flatten({"gate": asdict(self.gate)}),
            "hashes": hashes,
            "data": [asdict(finding) for finding in findings],
        }

    def write_page(self, decision: Decision, measurements: Measurements, held_out: HeldOut | None = None) -> None:
        """Write the decision's page into its folder."""
        from pipelines.commands.promotion import page

        store = Store(TARGET_PREPARED)
        moves = [move for move in self.ledger.decisions(moved=True) if move["model"] == decision["model"]]
        champion_moves = [move["id"] for move in moves if move["to"] == decision["from"]]
        champion_profile = None
        if self.champion_folder is not None:
            record = json.loads((Path(self.champion_folder) / "model.json").read_text())
            champion_profile = record["statistics"].get("profile")
        evidence = page.Evidence(
            measurements=measurements,
            gate=self.gate,
            split=store.split(SPLIT),
            held_out=held_out,
            classes=store.manifest["classes"],
            profiles={"champion": champion_profile, "challenger": training_statistics().get("profile")},
            champion_page=self.ledger.folder / champion_moves[0] if champion_moves else None,
        )
        page.write_page(self.ledger.folder / decision["id"], decision, evidence)


def verdict_fields(verdict: Verdict, measurements: Measurements) -> Decision:
    """Return the fields of a decision that state its verdict and what the gate measured."""
    names = ("score", "champion_score", "gain", "low", "high", "p_value")
    values = {name: getattr(verdict, name) for name in names}
    values |= {"won_examples": len(verdict.won), "lost_examples": len(verdict.lost)}
    for role, measurement in measurements.items():
        values |= {f"{role}.latency_ms": measurement.latency_ms, f"{role}.megabytes": measurement.megabytes}
        values |= {f"{role}.{name}": value for name, value in measurement.scores.items()}
    return {
        "promote": verdict.promote,
        "reasons": list(verdict.reasons),
        "values": values,
        "classes": list(verdict.classes),
        "won": list(verdict.won),
        "lost": list(verdict.lost),
    }


def conclude(ledger: Ledger, registry: Registry, decision: Decision) -> None:
    """Carry a decision out, print its outcome and send the alert."""
    moved = settle(ledger, registry, decision)
    number = decision["to"]["version"] if decision["to"] else "?"
    outcome = "kept"
    if decision["promote"] and moved:
        outcome = "promoted"
        text = f"version {number} is the champion now"
    elif decision["promote"]:
        text = f"version {number} won, but somebody else moved the alias in the meantime"
    else:
        text = "the champion stays" if decision["from"] else "no champion yet"
    print(f"retrain: {text}\n  " + "\n  ".join(decision["reasons"]), flush=True)
    send_alert("refused" if decision["action"] == "data" else outcome, decision)
