"""Decisions that were interrupted: each is completed once, or overruled."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import Refusal
from components.tracking.registry import Registry
from pipelines.commands.promotion import retrain, rollback
from pipelines.commands.promotion.ledger import Ledger
from tests.pipelines.commands.promotion.crash import MOVED_AT, fork_and_kill_retrain
from tests.pipelines.yard import NAME, Yard, changed, settings


def test_after_any_kill_the_repeated_command_moves_the_alias_once(yard: Yard, monkeypatch) -> None:
    yard.train(epochs=1)
    retrain.main()
    set_champion = Registry.set_champion

    def set_and_count(self: Registry, version) -> None:
        set_champion(self, version)
        with Path("moves").open("a") as file:
            file.write(f"{version.number} ")

    monkeypatch.setattr(Registry, "set_champion", set_and_count)
    expected = ""
    for number, (point, moved) in enumerate(MOVED_AT.items(), 2):
        changed("finetune: changed")
        yard.train(epochs=10, seed=number)
        fork_and_kill_retrain(point)
        assert yard.champion() == (str(number) if moved else "1"), point
        changed()
        assert retrain.main() == 0
        assert yard.champion() == str(number), point
        assert retrain.main() == 0
        rollback.main("1", "the next round")
        expected += f"{number} 1 "
        assert Path("moves").read_text() == expected, point
    decisions = 1 + 2 * len(MOVED_AT)
    assert [len(yard.records(kind)) for kind in ("decided", "moved", "audited")] == [decisions] * 3
    assert len(yard.audits()) == decisions


def test_an_alias_that_somebody_else_moved_is_left_alone(yard: Yard, capsys) -> None:
    for epochs in (1, 4):
        yard.train(epochs=epochs)
        retrain.main()
    settings(gate={"rule": "not_worse", "margin": 0.2})
    yard.train(epochs=60)
    fork_and_kill_retrain("between the decision and the alias")
    registry = Registry(NAME)
    other = next(v for v in ("1", "2") if v != yard.champion())
    registry.set_champion(registry.version(other))
    changed()
    retrain.main()
    assert yard.champion() == other
    assert "somebody else moved the alias" in capsys.readouterr().out
    assert len(yard.records("overruled")) == 1


def test_a_version_that_was_deleted_after_the_decision_stops_one_retrain_alone(yard: Yard) -> None:
    yard.train()
    fork_and_kill_retrain("between the decision and the alias")
    Registry(NAME).client.delete_model_version(NAME, "1")
    with pytest.raises(Refusal, match="has no version 1; it has: none"):
        retrain.main()
    assert len(yard.records("overruled")) == len(yard.records("audited")) == 1
    yard.train(epochs=2)
    assert retrain.main() == 0
    assert yard.champion() == "2"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_without_its_alias_a_champion_is_not_replaced_unjudged(yard: Yard, is_deleted: bool) -> None:
    """Deleting a version at MLflow deletes its alias, too."""
    yard.train(epochs=30)
    retrain.main()
    yard.train(epochs=1)
    client = Registry(NAME).client
    if is_deleted:
        client.delete_model_version(NAME, "1")
    else:
        client.delete_registered_model_alias(NAME, "champion")
    remedy = "then trainyard promote VERSION" if is_deleted else "compare with: trainyard promote 1 --because TEXT"
    with pytest.raises(Refusal, match=f"the alias 'champion' is gone, which version 1 had; .*{remedy}"):
        retrain.main()
    assert yard.champion() is None
    if not is_deleted:
        assert rollback.promote("1", "somebody deleted the alias") == 0
        assert retrain.main() == 0
        assert yard.champion() == "1"


def test_a_damaged_ledger_is_refused_and_stays_unchanged(yard: Yard) -> None:
    yard.train()
    retrain.main()
    path = Ledger().path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace("1", "2", 1) + "".join(lines[1:]))
    before = path.read_bytes()
    with pytest.raises(Refusal, match="line 1 is damaged"):
        retrain.main()
    assert path.read_bytes() == before
