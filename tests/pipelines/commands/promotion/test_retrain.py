"""The gate on real models and a real registry: who wins, what a crash leaves, who is told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from components import network
from components.errors import Refusal, TryLater
from components.files import path_digest
from components.runs import journal
from components.runs.journal import Journal
from components.tracking import mirror
from components.tracking.registry import Registry
from pipelines.commands.promotion import retrain, rollback
from pipelines.commands.promotion.ledger import Ledger
from pipelines.stage.lock import hold_lock
from tests.pipelines.yard import NAME, ROOT, Yard, changed, settings


def test_the_better_challenger_wins_and_the_shuffled_one_does_not(yard: Yard, capsys) -> None:
    yard.train(epochs=1)
    assert retrain.main() == 0
    assert yard.champion() == "1"
    assert "there is no champion yet" in capsys.readouterr().out
    changed()
    assert retrain.main() == 0
    assert "nothing changed since the last decision" in capsys.readouterr().out

    changed("finetune: changed params: params.yaml (finetune)")
    yard.train(epochs=6, shuffled=True)
    assert retrain.main() == 0
    assert yard.champion() == "1"
    assert "the champion stays" in capsys.readouterr().out

    yard.train(epochs=30)
    assert retrain.main() == 0
    assert yard.champion() == "3"
    capsys.readouterr()
    assert retrain.main() == 0
    assert "the same bytes came out, and they were judged before" in capsys.readouterr().out

    decisions = yard.records("decided")
    assert [d["promote"] for d in decisions] == [True, False, True]
    assert len(yard.records("moved")) == 2
    last = decisions[-1]
    assert (last["from"]["version"], last["to"]["version"], last["by"]) == ("1", "3", "a test")
    assert last["values"]["low"] < last["values"]["gain"] < last["values"]["high"]
    assert last["values"]["p_value"] < 0.05
    assert {"data/prepared/target", "code", "params"} <= last["hashes"].keys()
    audits = {run.data.tags["trainyard.key"]: run for run in yard.audits()}
    assert sorted(run.data.tags["result"] for run in audits.values()) == ["kept", "promoted", "promoted"]
    run = audits[last["id"]]
    assert run.data.metrics["gain"] == last["values"]["gain"]
    assert run.data.tags["to.version"] == "3"
    assert run.data.tags["by"] == "a test"


def test_guards_hold_for_the_first_model_too(yard: Yard, capsys) -> None:
    settings(gate={"least": 0.999})
    yard.train(epochs=1)
    assert retrain.main() == 0
    assert yard.champion() is None
    assert "guard fails: accuracy" in capsys.readouterr().out
    settings(gate={"least": 0.1})  # another gate: the same model is judged again
    changed()
    assert retrain.main() == 0
    assert yard.champion() == "1"


def test_changed_data_are_refused_before_training(yard: Yard, capsys) -> None:
    yard.train(epochs=2)
    retrain.main()
    yard.prepare(darker=True)
    for _ in range(2):
        assert retrain.main() == 4
        assert "BAD   brightness ks" in capsys.readouterr().out
    assert yard.champion() == "1"
    assert [d["action"] for d in yard.records("decided")] == ["retrain", "data"]
    assert any(not finding["fine"] for finding in yard.records("decided")[1]["data"])


def test_rollback_goes_back_one_champion_at_a_time(yard: Yard, capsys) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    assert yard.champion() == "2"
    assert rollback.main(None, "it smells") == 0
    assert yard.champion() == "1"
    with pytest.raises(Refusal, match="knows no champion before this one"):
        rollback.main(None, None)
    changed()
    assert retrain.main() == 0  # nothing new: the schedule does not undo a rollback
    assert yard.champion() == "1"
    assert rollback.promote("2", "it did not") == 0
    assert yard.champion() == "2"
    with pytest.raises(Refusal, match="is the champion already"):
        rollback.promote("2", "twice")
    with pytest.raises(Refusal, match="has no version 9; it has: 1, 2"):
        rollback.main("9", None)
    assert [d["action"] for d in yard.records("decided")] == ["retrain", "retrain", "rollback", "promote"]
    assert yard.records("decided")[2]["reasons"] == ["it smells"]
    assert len(yard.audits()) == 4


def test_a_version_whose_bytes_have_changed_is_no_champion(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    for file in (yard.folder / "mlartifacts").rglob("weights.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(Refusal, match="stored bytes have changed"):
        rollback.main(None, None)
    assert yard.champion() == "2"


# ------------------------------------------------------------------------------------------------ crashes

KILLED = """
import os, signal
from components.tracking.registry import Registry
from pipelines.commands.promotion import ledger, retrain
from tests.pipelines.yard import in_this_process
in_this_process(setattr)

def end(here):
    if here == {point!r}:
        os.kill(os.getpid(), signal.SIGKILL)

moved = Registry.set_champion
def crown(self, version):
    end("between the decision and the alias")
    moved(self, version)
    open("moves", "a").write(version.number + " ")
    end("between the alias and its line")
Registry.set_champion = crown

wrote = ledger.Ledger.write
def write(self, kind, **payload):
    if kind == "decided" and {point!r} == "inside the decision's line":
        open(self.path, "a").write('0badc0de {{"kind": "deci')
        end({point!r})
    wrote(self, kind, **payload)
    if kind == "moved":
        end("between the alias and the audit")
ledger.Ledger.write = write
raise SystemExit(retrain.main())
"""
POINTS = {  # point -> whether the alias had moved
    "inside the decision's line": False,
    "between the decision and the alias": False,
    "between the alias and its line": True,
    "between the alias and the audit": True,
}


def killed(point: str) -> None:
    command = [sys.executable, "-c", KILLED.format(point=point)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_anywhere_the_repetition_ends_right_and_the_alias_moves_once(yard: Yard, monkeypatch) -> None:
    yard.train(epochs=1)
    retrain.main()
    crown = Registry.set_champion

    def counted(self: Registry, version) -> None:
        crown(self, version)
        with Path("moves").open("a") as file:
            file.write(f"{version.number} ")

    monkeypatch.setattr(Registry, "set_champion", counted)
    expected = ""
    for number, (point, moved) in enumerate(POINTS.items(), 2):
        changed("finetune: changed")
        yard.train(epochs=10, seed=number)
        killed(point)
        assert yard.champion() == (str(number) if moved else "1"), point
        changed()
        assert retrain.main() == 0
        assert yard.champion() == str(number), point
        assert retrain.main() == 0
        rollback.main("1", "the next round")
        expected += f"{number} 1 "
        assert Path("moves").read_text() == expected, point
    decisions = 1 + 2 * len(POINTS)
    assert [len(yard.records(kind)) for kind in ("decided", "moved", "audited")] == [decisions] * 3
    assert len(yard.audits()) == decisions


def test_an_alias_that_somebody_else_moved_is_left_alone(yard: Yard, capsys) -> None:
    for epochs in (1, 4):
        yard.train(epochs=epochs)
        retrain.main()
    settings(gate={"rule": "not_worse", "margin": 0.2})
    yard.train(epochs=60)
    killed("between the decision and the alias")
    registry = Registry(NAME)
    other = next(v for v in ("1", "2") if v != yard.champion())
    registry.set_champion(registry.version(other))
    changed()
    retrain.main()
    assert yard.champion() == other
    assert "somebody else moved the alias" in capsys.readouterr().out
    assert len(yard.records("overruled")) == 1


def test_a_person_overrules_what_was_decided_and_not_done(yard: Yard, monkeypatch, capsys) -> None:
    """Back from champion 2 to 1 while version 3 waits for the alias: it never gets it, not even for a moment."""
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    settings(gate={"rule": "not_worse", "margin": 0.2})
    yard.train(epochs=60)
    killed("between the decision and the alias")
    assert (yard.champion(), len(yard.records("decided")), len(yard.records("moved"))) == ("2", 3, 2)
    with pytest.raises(Refusal, match="has no version 9"):
        rollback.main("9", None)
    assert yard.records("overruled") == []
    crown, crowned = Registry.set_champion, []
    monkeypatch.setattr(Registry, "set_champion", lambda self, v: (crowned.append(v.number), crown(self, v)))
    capsys.readouterr()
    assert rollback.main(None, "it smells") == 0
    told = capsys.readouterr().out
    assert crowned == ["1"]
    assert "rollback: version 3 had won, but was not the champion yet; it will not be promoted" in told
    assert "version 1 is the champion, before it was 2" in told
    assert [line["champion"] for line in yard.records("overruled")] == ["2"]
    changed()
    assert retrain.main() == 0
    assert (yard.champion(), crowned, len(Ledger().pending_decisions())) == ("1", ["1"], 0)


def test_a_rollback_finishes_what_was_done_and_not_noted(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main() if epochs == 1 else killed("between the alias and its line")
    assert (yard.champion(), len(yard.records("moved"))) == ("2", 1)
    assert rollback.main(None, "it smells") == 0
    assert (yard.champion(), len(yard.records("moved")), yard.records("overruled")) == ("1", 3, [])


def test_a_decision_is_about_the_model_it_names(yard: Yard) -> None:
    """The params got another name after a decision was noted: the model of that name is none of its business."""
    yard.train()
    killed("between the decision and the alias")
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace(f"name: {NAME}", "name: other"))
    with pytest.raises(Refusal, match="other has no version 1"):
        rollback.promote("1", "by mistake")
    with pytest.raises(Refusal, match="knows no champion before"):
        rollback.main(None, None)
    assert yard.records("overruled") == []
    changed()
    assert retrain.main() == 0
    assert yard.champion() == "1"


def test_a_damaged_ledger_is_refused_and_left_as_it_is(yard: Yard) -> None:
    yard.train()
    retrain.main()
    path = Ledger().path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace("1", "2", 1) + "".join(lines[1:]))
    before = path.read_bytes()
    with pytest.raises(Refusal, match="line 1 is damaged"):
        retrain.main()
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------------ the tracker, the lock


def test_without_a_tracker_the_champion_stays_and_the_work_is_kept(yard: Yard, monkeypatch) -> None:
    yard.train()
    retrain.main()
    yard.train(epochs=30)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{network.free_port()}")
        away.setattr("components.tracking.registry.PATIENCE", 0.5)
        with pytest.raises(TryLater, match="does not answer; the champion stays"):
            retrain.main()
    assert yard.champion() == "1"
    assert retrain.main() == 0
    assert yard.champion() == "2"


def test_what_two_nights_left_for_a_tracker_that_was_away_is_each_nights_own(yard: Yard) -> None:
    """... though the second wrote its model where the first one's was (Yard.train: as DVC does)."""
    trained = [yard.train(epochs=1), yard.train(epochs=2)]
    mirror.Mirror(Path(".trainyard/runs")).send()
    registry = Registry(NAME)
    versions = registry.versions()
    assert sorted(version.digest for version in versions) == sorted(trained)
    for version in versions:
        assert path_digest(registry.fetch(version, yard.folder / "fetched")) == version.digest
        told = mlflow.artifacts.load_text(f"runs:/{version.run}/report.html")
        assert told == version.digest


def test_another_run_that_the_tracker_refuses_keeps_no_model_back(yard: Yard) -> None:
    folder = Path(".trainyard/runs/a-run-of-old")
    journal.describe_run(folder, "old", NAME)
    Journal(folder / journal.LOG).write("metric", step=1, values={"what?": 1.0})
    made = yard.train()
    with Path(f".trainyard/runs/evaluate-{made[:16]}/.mirror").open("w") as sending:
        fcntl.flock(sending, fcntl.LOCK_EX)  # as the mirror of all stages does while it sends this run
        later = threading.Timer(3, fcntl.flock, (sending, fcntl.LOCK_UN))
        later.start()
        assert retrain.main() == 0
        later.join()
    assert yard.champion() == "1"


def test_a_tracker_lost_after_the_decision_gets_it_later(yard: Yard, monkeypatch, capsys) -> None:
    yard.train()
    with monkeypatch.context() as away:
        away.setattr(Registry, "set_champion", lambda self, version: self.asked_in_vain())
        away.setattr(Registry, "asked_in_vain", _away, raising=False)
        with pytest.raises(TryLater):
            retrain.main()
    assert (yard.champion(), len(yard.records("decided"))) == (None, 1)
    changed()
    assert retrain.main() == 0
    assert yard.champion() == "1"
    assert len(yard.records("decided")) == 1


def _away(registry) -> None:
    with registry._requests():
        raise ConnectionError("gone")


def test_a_second_retrain_declines_or_waits(yard: Yard) -> None:
    yard.train()
    with hold_lock("retrain"):
        began = time.monotonic()
        with pytest.raises(TryLater, match="already runs it"):
            retrain.main()
        assert time.monotonic() - began < 20
    holding, released = threading.Event(), []

    def hold() -> None:
        with hold_lock("retrain"):
            holding.set()
            time.sleep(1)
            released.append(time.monotonic())

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    assert retrain.main(wait=True) == 0
    assert released
    thread.join()


# ------------------------------------------------------------------------------------------------ alerts


@pytest.fixture
def ear():
    """A local web server that keeps what it is told."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if self.path == "/slow":
                time.sleep(5)
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *given: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield heard, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_command_and_a_web_address_are_told(yard: Yard, ear, monkeypatch) -> None:
    heard, address = ear
    monkeypatch.setenv("HOOK", address)
    command = ["sh", "-c", "cat > told-$TRAINYARD_OUTCOME.json"]
    settings(alerts={"when": ["promoted", "failed"], "url": "$HOOK/x", "command": command})
    yard.train()
    retrain.main()
    assert [(told["outcome"], told["to"]["version"]) for told in heard] == [("promoted", "1")]
    assert json.loads(Path("told-promoted.json").read_text()) == heard[0]
    yard.train(epochs=3, shuffled=True)
    retrain.main()
    assert len(heard) == 1  # "kept" is not among the chosen outcomes
    with hold_lock("retrain"), pytest.raises(TryLater):
        retrain.main()
    assert len(heard) == 1  # nor is a second retrain, which declines, a failure
    settings(gate={"level": 7})
    with pytest.raises(Refusal):
        retrain.main()
    assert heard[-1]["outcome"] == "failed"
    assert "retrain.gate.level: must be a number between 0 and 1" in heard[-1]["reasons"][0]


@pytest.mark.parametrize(
    ("alerts", "says"),
    [
        ({"url": "$EAR/slow"}, "timed out"),
        ({"url": "$EAR/broken"}, "500"),
        ({"url": "http://127.0.0.1:9/"}, "URLError"),
        ({"url": "$NOT_SET"}, "not an http(s) address"),
        ({"command": ["sh", "-c", "sleep 60 & sleep 60"]}, "TimeoutExpired"),
        ({"command": ["sh", "-c", "exit 3"]}, "exit code 3"),
        ({"command": ["/no/such/thing"]}, "FileNotFoundError"),
    ],
)
def test_alerts_that_fail_hurt_nothing(alerts: dict, says: str, ear, monkeypatch) -> None:
    from components.verdicts.alerts import Alerts

    monkeypatch.setenv("EAR", ear[1])
    began = time.monotonic()
    (line,) = Alerts(seconds=0.5, **alerts).send("failed", {"model": NAME})
    assert says in line
    assert time.monotonic() - began < 20


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("gate", {"levle": 0.9}, "retrain.gate.levle: verdicts.gate.Gate has no such argument (did you mean 'level'?)"),
        ("gate", {"level": 1}, "retrain.gate.level: must be a number between 0 and 1"),
        ("gate", {"rule": "beter"}, "retrain.gate.rule: must be one of better, not_worse (did you mean 'better'?)"),
        ("data", {"psi": 0}, "retrain.data.psi: must be a number above 0"),
        ("alerts", {"when": ["promotd"]}, "no outcome 'promotd' (did you mean 'promoted'?)"),
        ("alerts", {"url": "https://me:secret@example.org"}, "retrain.alerts.url: holds a password"),
        ("alerts", {"command": "mail"}, "retrain.alerts.command: must be a list"),
    ],
)
def test_bad_settings_get_one_line(yard: Yard, section: str, values: dict, says: str) -> None:
    settings(**{section: values})
    with pytest.raises(Refusal) as refused:
        retrain.main()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not Path("promotions").exists()
