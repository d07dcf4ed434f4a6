"""Moving the alias by hand: to the previous champion, to a chosen version, and over an unfinished decision."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import Refusal, TryLater
from components.files import bytes_digest, write_json
from components.tracking.registry import Registry
from components.workspace import runs_folder, work_folder
from pipelines.commands import sync, verify
from pipelines.commands.promotion import retrain, rollback
from pipelines.commands.promotion.ledger import Ledger
from pipelines.stage.lock import hold_lock
from tests.pipelines.commands.promotion.crash import fork_and_kill_retrain
from tests.pipelines.yard import NAME, Yard, changed, settings


def test_rollback_goes_back_one_champion_at_a_time(yard: Yard, capsys) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    assert yard.champion() == "2"
    assert rollback.main(None, "it smells") == 0
    assert yard.champion() == "1"
    with pytest.raises(Refusal, match="has no champion before this one"):
        rollback.main(None, None)
    changed()
    assert retrain.main() == 0  # nothing changed: the schedule does not undo a rollback
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


def test_beside_a_retrain_a_rollback_is_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no option --wait, unlike `retrain`."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"name: {NAME}\n")
    with hold_lock("retrain"), pytest.raises(TryLater, match=r"already runs it; repeat the command when it has ended$"):
        rollback.main(None, None)


def test_a_version_whose_bytes_have_changed_is_not_promoted(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    change_stored_weights(yard)
    with pytest.raises(Refusal, match="stored bytes have changed"):
        rollback.main(None, None)
    for weights in (yard.folder / "mlartifacts").rglob("weights.safetensors"):
        for version in Registry(NAME).versions():  # a digest in the folder changes nothing
            write_json(weights.parent / "manifest.json", {"digest": version.digest, "splits": {}})
            with pytest.raises(Refusal, match="stored bytes have changed"):
                rollback.main(None, None)
    assert yard.champion() == "2"


def test_a_copy_from_before_does_not_vouch_for_the_stored_bytes(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    registry = Registry(NAME)
    registry.fetch(registry.version("1"), work_folder() / "champions")
    change_stored_weights(yard)
    with pytest.raises(Refusal, match="stored bytes have changed"):
        rollback.main(None, None)
    assert yard.champion() == "2"


def test_a_version_without_a_digest_is_not_promoted(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    registry = Registry(NAME)
    registry.client.delete_model_version_tag(NAME, "1", "digest")
    with pytest.raises(Refusal, match="version 1: has no tag 'digest'"):
        rollback.main(None, None)
    assert yard.champion() == "2"
    registry.client.delete_model_version_tag(NAME, "2", "digest")
    with pytest.raises(Refusal, match="version 2: has no tag 'digest'"):
        verify.main()
    yard.train(epochs=40)
    with pytest.raises(Refusal, match="version 2: has no tag 'digest'"):
        retrain.main()


@pytest.mark.parametrize("change", ["bytes", "bytes and tag", "bytes and manifest"])
def test_a_challenger_whose_bytes_changed_after_the_decision_never_gets_the_alias(yard: Yard, change: str) -> None:
    digest = yard.train()
    fork_and_kill_retrain("between the decision and the alias")
    change_stored_weights(yard)
    registry = Registry(NAME)
    if change == "bytes and tag":
        folder = next((yard.folder / "mlartifacts").rglob("weights.safetensors")).parent
        registry.client.set_model_version_tag(NAME, "1", "digest", bytes_digest(folder))
    if change == "bytes and manifest":
        for weights in (yard.folder / "mlartifacts").rglob("weights.safetensors"):
            write_json(weights.parent / "manifest.json", {"digest": digest})
    with pytest.raises(Refusal, match="tag 'digest' has changed" if change == "bytes and tag" else "bytes have chang"):
        retrain.main()
    assert yard.champion() is None
    assert len(yard.records("overruled")) == 1
    changed()
    assert retrain.main() == 0  # the next night is not stuck
    assert yard.champion() is None


def change_stored_weights(yard: Yard) -> None:
    """Change the last byte of all weights in the tracker's store."""
    for file in (yard.folder / "mlartifacts").rglob("weights.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"!")


def test_a_rollback_overrules_a_decision_that_was_not_carried_out(yard: Yard, monkeypatch, capsys) -> None:
    """Roll back from champion 2 to 1 while version 3 waits for the alias: version 3 never gets it."""
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    settings(gate={"rule": "not_worse", "margin": 0.2})
    yard.train(epochs=60)
    fork_and_kill_retrain("between the decision and the alias")
    assert (yard.champion(), len(yard.records("decided")), len(yard.records("moved"))) == ("2", 3, 2)
    with pytest.raises(Refusal, match="has no version 9"):
        rollback.main("9", None)
    assert yard.records("overruled") == []
    set_champion = Registry.set_champion
    promoted: list[str] = []
    monkeypatch.setattr(Registry, "set_champion", lambda self, v: (promoted.append(v.number), set_champion(self, v)))
    capsys.readouterr()
    assert rollback.main(None, "it smells") == 0
    output = capsys.readouterr().out
    assert promoted == ["1"]
    assert "rollback: version 3 had won, but was not the champion yet; it will not be promoted" in output
    assert "version 1 is the champion, before it was 2" in output
    assert [line["champion"] for line in yard.records("overruled")] == ["2"]
    changed()
    assert retrain.main() == 0
    assert (yard.champion(), promoted, len(Ledger().pending_decisions())) == ("1", ["1"], 0)


def test_a_rollback_completes_a_move_that_was_not_recorded(yard: Yard) -> None:
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        if epochs == 1:
            retrain.main()
        else:
            fork_and_kill_retrain("between the alias and its line")
    assert (yard.champion(), len(yard.records("moved"))) == ("2", 1)
    assert rollback.main(None, "it smells") == 0
    assert (yard.champion(), len(yard.records("moved")), yard.records("overruled")) == ("1", 3, [])


def test_a_decision_is_about_the_model_it_names(yard: Yard) -> None:
    """Params that name another model after a decision do not apply the decision to that model."""
    yard.train()
    fork_and_kill_retrain("between the decision and the alias")
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace(f"name: {NAME}", "name: other"))
    with pytest.raises(Refusal, match="other has no version 1"):
        rollback.promote("1", "by mistake")
    with pytest.raises(Refusal, match="has no champion before"):
        rollback.main(None, None)
    assert yard.records("overruled") == []
    yard.train(name="other")
    assert retrain.main() == 0
    assert yard.champion() == "1"
    champion = Registry("other").champion()  # the same bytes, which have been judged under one name alone
    assert champion is not None
    assert champion.number == "1"
    changed()
    assert retrain.main() == 0
    assert [(d["model"], d["promote"]) for d in yard.records("decided")] == [(NAME, True), ("other", True)]
    assert len(list(Ledger().folder.glob("*/index.html"))) == 2


def test_a_version_of_another_registry_is_not_the_previous_champion(
    yard: Yard, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger outlives a tracker, and another one counts its versions from 1 again."""
    for epochs in (1, 30):
        yard.train(epochs=epochs)
        retrain.main()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, yard.folder / 'new.db')}")
    shutil.rmtree(runs_folder())
    for epochs in (3, 30):
        yard.train(epochs=epochs)
        assert sync.main() == 0
    registry = Registry(NAME)
    registry.set_champion(registry.version("2"))
    with pytest.raises(Refusal, match="version 1: is not the model that was the champion before"):
        rollback.main(None, None)
    assert yard.champion() == "2"
