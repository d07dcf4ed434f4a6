"""A model is registered once, wherever the mirror that registers it is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.tracking import mirror, replay, server
from components.tracking.registry import Registry
from tests.components.tracking.sent_runs import points, registered_models, runs, write_run_with_model


@pytest.mark.parametrize("killed", ["create_model_version", "search_model_versions", "save_note", "log_model"])
def test_a_mirror_killed_while_it_registers_a_model_registers_one(
    killed: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first mirror dies right after the call `killed`, whose work is done but not noted."""
    import mlflow.pyfunc  # the module itself: `mlflow.pyfunc` is a lazy proxy before

    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)
    owner = {"save_note": replay.RunReplay, "log_model": mlflow.pyfunc}.get(killed, mlflow.MlflowClient)
    call = getattr(owner, killed)

    def call_and_die(*arguments: Any, **options: Any) -> None:
        call(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, killed, call_and_die)
        with pytest.raises(KeyboardInterrupt):
            mirror.Mirror(folder).send()
    mirror.Mirror(folder).send()
    assert registered_models(folder) == (1, 1, ["1"])
    assert len(points(runs()[0], "train/loss")) == 30


def test_a_model_that_was_half_logged_is_removed_and_logged_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)

    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", stop)
        with pytest.raises(KeyboardInterrupt):
            mirror.Mirror(folder).send()
    client = server.make_client(store)
    experiment = client.get_experiment_by_name("bench").experiment_id
    assert [str(model.status) for model in client.search_logged_models([experiment])] != ["READY"]
    mirror.Mirror(folder).send()
    assert [str(model.status) for model in client.search_logged_models([experiment])] == ["READY"]
    assert registered_models(folder) == (1, 1, ["1"])


def test_the_origin_of_a_version_has_the_parameters_of_its_recipe_alone(store: str, tmp_path: Path) -> None:
    """`verify` makes a recipe of them; MLflow adds the configuration of the model to the run's."""
    folder = tmp_path / "runs" / "evaluate-1"
    write_run_with_model(folder)
    mirror.Mirror(folder).send()
    registry = Registry("digits")
    assert "digest" in runs()[0].data.params
    assert registry.origin(registry.newest()).params == {"lr": "0.1"}
