"""Check which model of the flagship is served, and how its recipe is cut into sections."""

from __future__ import annotations

from pathlib import Path

from pipelines import flagship

PARAMS = {
    "model": {"use": "models.lenet.LeNet"},
    "pretrain": {"task": {"use": "tasks.classification.Classification"}, "fit": {"epochs": 2}},
    "finetune": {"task": {"use": "tasks.classification.Classification", "body_rate": 0.1}, "fit": {"epochs": 3}},
}


def test_model_of_the_first_seed_is_served(tmp_path: Path) -> None:
    assert flagship.list_models("finetuned", tmp_path) == []
    for seed in (10, 9, 100):
        (tmp_path / flagship.model_folder("finetuned", seed)).mkdir(parents=True)
    assert [folder.name for folder in flagship.list_models("finetuned", tmp_path)] == ["9", "10", "100"]
    assert flagship.served_model(tmp_path) == tmp_path / "models/finetuned/9"


def test_arms_differ_only_in_start_and_rate_of_the_body() -> None:
    finetuned, scratch = (flagship.arm_section(PARAMS, arm) for arm in flagship.ARMS)
    assert finetuned["fit"] == scratch["fit"] == {"epochs": 3}
    shared = {"use": "tasks.classification.Classification", "model": PARAMS["model"]}
    assert finetuned["task"] == {**shared, "body_rate": 0.1, "start": "models/pretrain"}
    assert scratch["task"] == {**shared, "body_rate": 1.0}
    assert flagship.pretrain_section(PARAMS) == {"task": shared, "fit": {"epochs": 2}}
    assert "model" not in PARAMS["finetune"]["task"], "the recipe is not changed"
