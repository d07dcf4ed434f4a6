"""The gate on real models and a real registry: which model is promoted, and what a failing tracking server changes."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from components import network
from components.errors import Refusal, TryLater
from components.files import bytes_digest
from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import Journal
from components.storage.content import read_digests
from components.storage.feed import Feed
from components.storage.store import Store
from components.tracking import mirror, server
from components.tracking.registry import Registry
from components.training import evaluation, exported
from components.training.peers import Peers
from components.workspace import runs_folder
from pipelines.commands.promotion import retrain
from pipelines.stage.lock import hold_lock
from tests.pipelines.yard import NAME, Yard, changed, settings


def test_the_better_challenger_is_promoted_and_one_with_shuffled_labels_is_not(yard: Yard, capsys) -> None:
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
    assert "training gave a model that was judged before" in capsys.readouterr().out

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


def test_guards_apply_to_the_first_model(yard: Yard, capsys) -> None:
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


def test_examples_that_either_model_was_trained_on_are_left_out(yard: Yard, capsys) -> None:
    """Draw the digits again by another seed: training examples of the champion become held-out ones."""
    yard.train(epochs=2)
    retrain.main()
    yard.prepare(seed=1)
    store = Store("data/prepared/target")
    champion = read_digests(next(Path("mlartifacts").rglob("contents.npy")))
    familiar = np.isin(store.contents("test"), champion)
    assert 250 < familiar.sum() < 450
    yard.train(epochs=30)
    assert retrain.main() == 0
    decision = yard.records("decided")[-1]
    held_out = decision["held_out"]
    assert held_out["trained_on"] == {"challenger": 0, "champion": familiar.sum()}
    assert (held_out["total"], held_out["judged"]) == (1297, 1297 - familiar.sum())
    assert sum(row["examples"] for row in decision["classes"]) == held_out["judged"]
    assert not familiar[[*decision["won"], *decision["lost"]]].any()
    sentence = f"{familiar.sum()} of 1,297 held-out examples are left out: the challenger was trained on 0, the cham"
    assert capsys.readouterr().out.count(sentence) == 1
    page = Path(f"promotions/{decision['id']}/index.html").read_text()
    assert sentence in page
    task, state = exported.read_model("models/finetuned/0")
    rows = np.flatnonzero(~familiar)
    scores, _ = evaluation.evaluate(task, state, Feed(store.split("test"), rows), Peers())
    assert decision["values"]["score"] == pytest.approx(scores["accuracy"])


@pytest.mark.parametrize(("missing", "promotes"), [(0, True), (1, False)])
def test_the_gate_refuses_to_judge_on_too_few_examples(yard: Yard, capsys, missing: int, promotes: bool) -> None:
    yard.train(epochs=1)
    retrain.main()
    yard.prepare(seed=1)
    champion = read_digests(next(Path("mlartifacts").rglob("contents.npy")))
    fresh = int((~np.isin(Store("data/prepared/target").contents("test"), champion)).sum())
    settings(gate={"examples": fresh + missing})
    yard.train(epochs=30)
    assert retrain.main() == 0
    assert yard.champion() == ("2" if promotes else "1")
    refusal = f"the gate does not judge: {fresh:,} held-out examples remain, at least {fresh + 1:,} are needed"
    assert (refusal in capsys.readouterr().out) is not promotes
    decision = yard.records("decided")[-1]
    assert decision["promote"] is promotes
    page = Path(f"promotions/{decision['id']}/index.html").read_text()
    assert (refusal[4:] in page) is not promotes


def test_a_model_without_a_record_is_compared_and_the_page_says_so(yard: Yard) -> None:
    yard.train(epochs=1, recorded=False)
    retrain.main()
    yard.train(epochs=30)
    assert retrain.main() == 0
    assert yard.champion() == "2"
    decision = yard.records("decided")[-1]
    assert decision["held_out"]["trained_on"] == {"challenger": 0, "champion": None}
    page = Path(f"promotions/{decision['id']}/index.html").read_text()
    assert "Not recorded: what the champion was trained on, so none of its examples are left out" in page


def test_a_second_retrain_gives_up_or_waits(yard: Yard) -> None:
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


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("gate", {"levle": 0.9}, "retrain.gate.levle: verdicts.gate.Gate has no such argument (did you mean 'level'?)"),
        ("gate", {"level": 1}, "retrain.gate.level: must be a number between 0 and 1"),
        ("gate", {"rule": "beter"}, "retrain.gate.rule: must be one of better, not_worse (did you mean 'better'?)"),
        ("gate", {"examples": 0}, "retrain.gate.examples: must be a whole number of at least 1"),
        ("data", {"psi": 0}, "retrain.data.psi: must be a number above 0"),
        ("alerts", {"when": ["promotd"]}, "no outcome 'promotd' (did you mean 'promoted'?)"),
        ("alerts", {"url": "https://me:secret@example.org"}, "retrain.alerts.url: holds a password"),
        ("alerts", {"command": "mail"}, "retrain.alerts.command: must be a list"),
    ],
)
def test_bad_settings_get_one_line(yard: Yard, section: str, values: dict, says: str) -> None:
    settings(**{section: values})
    with pytest.raises(Refusal) as refusal:
        retrain.main()
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not Path("promotions").exists()


# ------------------------------------------------------------------------------------------------ the tracking server


def test_without_a_tracker_the_champion_stays_and_the_run_is_kept(yard: Yard, monkeypatch) -> None:
    yard.train()
    retrain.main()
    yard.train(epochs=30)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{network.free_port()}")
        with pytest.raises(TryLater, match=r"does not answer \(Connection refused\); the champion stays"):
            retrain.main()
    assert yard.champion() == "1"
    assert retrain.main() == 0
    assert yard.champion() == "2"


def test_two_unsent_retrains_register_their_own_models(yard: Yard) -> None:
    """The second one wrote its model over that of the first, as DVC does (see Yard.train)."""
    trained = [yard.train(epochs=1), yard.train(epochs=2)]
    mirror.Mirror(Path(".trainyard/runs")).send()
    registry = Registry(NAME)
    versions = registry.versions()
    assert sorted(version.digest for version in versions) == sorted(trained)
    for version in versions:
        assert bytes_digest(registry.fetch(version, yard.folder / "fetched")) == version.digest
        assert mlflow.artifacts.load_text(f"runs:/{version.run}/report.html") == version.digest


def test_a_run_that_the_tracker_rejects_does_not_hold_back_a_model(yard: Yard) -> None:
    folder = Path(".trainyard/runs/a-run-of-old")
    describe_run(folder, "old", NAME)
    Journal(folder / journal.LOG).write("metric", step=1, values={"what?": 1.0})
    model = yard.train()
    with Path(f".trainyard/runs/evaluate-{model[:16]}/.mirror").open("w") as sending:
        fcntl.flock(sending, fcntl.LOCK_EX)  # like another mirror that sends this run
        later = threading.Timer(3, fcntl.flock, (sending, fcntl.LOCK_UN))
        later.start()
        assert retrain.main() == 0
        later.join()
    assert yard.champion() == "1"


def test_a_tracker_lost_after_the_decision_gets_it_later(yard: Yard, monkeypatch, capsys) -> None:
    yard.train()
    with monkeypatch.context() as away:
        away.setattr(Registry, "set_champion", lambda self, version: _lose_connection(self))
        with pytest.raises(TryLater):
            retrain.main()
    assert (yard.champion(), len(yard.records("decided"))) == (None, 1)
    changed()
    assert retrain.main() == 0
    assert yard.champion() == "1"
    assert len(yard.records("decided")) == 1


def _lose_connection(registry: Registry) -> None:
    with registry._requests():
        raise ConnectionError("gone")


def test_a_version_that_was_deleted_is_registered_again_with_the_same_bytes(yard: Yard) -> None:
    """The stage that exported the model runs again, such as after data went back to what they were."""
    yard.train()
    mirror.Mirror(runs_folder()).send()
    Registry(NAME).client.delete_model_version(NAME, "1")
    mirror.Mirror(runs_folder()).send()
    assert Registry(NAME).versions() == []  # by itself, a deleted version stays deleted
    yard.train()
    assert retrain.main() == 0
    assert yard.champion() == "2"


def test_a_champion_of_another_tool_is_refused_before_any_work(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time does not mend it, so it is no fault of the kind with exit code 75."""
    monkeypatch.setattr(retrain.repro, "run_on_local_cluster", lambda command: pytest.fail("it works on the cluster"))
    client = server.make_client(server.tracking_uri())  # MLflow's own default may be another test's
    client.create_registered_model(NAME)
    Path("theirs").mkdir()
    version = client.create_model_version(NAME, Path("theirs").resolve().as_uri()).version
    client.set_registered_model_alias(NAME, "champion", version)
    with pytest.raises(Refusal, match=r"version 1: has no tag 'digest'.*another tool uses the name, set another"):
        retrain.main()
    client.set_model_version_tag(NAME, version, "digest", "ab" * 32)
    with pytest.raises(Refusal, match=r"the tracker sqlite:.*No such artifact: 'MLmodel'"):
        retrain.main()
    Path("theirs/MLmodel").write_text("flavors: {sklearn: {}}\n")
    Path("theirs/artifacts").mkdir()
    Path("theirs/artifacts/model.pkl").touch()
    with pytest.raises(Refusal, match="version 1: is not a model that this project registered"):
        retrain.main()


def test_a_long_list_of_changes_is_shortened(yard: Yard, capsys: pytest.CaptureFixture) -> None:
    yard.train()
    changed(f"prepare: changed deps: {', '.join(f'params.yaml (data.source.value{n})' for n in range(99))}")
    assert retrain.main() == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "changed: prepare" in line]
    assert len(line) < 150
    assert line.endswith(" ...")
