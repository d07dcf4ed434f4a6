"""Check that `plan` refuses batches that a task can't use: some of the rows, or rows grouped by lengths it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import Refusal
from components.recipes import recipe
from components.recipes.signature import class_constant
from pipelines.stage.check import check_recipe

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["studies/error-surface", "studies/saddle", "style/transfer"])
@pytest.mark.parametrize("batch", [160, 200])
def test_a_number_of_rows_is_refused_before_anything_runs(name: str, batch: int) -> None:
    """Check 200 as well: it is the training split of a study, but not that of its folds."""
    content = recipe.load(ROOT / f"pipelines/{name}.yaml")
    check_recipe(content, "recipe.yaml")
    content["fit"]["batch"] = batch
    with pytest.raises(Refusal, match=rf"recipe.yaml: fit.batch: {batch} may leave out training rows.*; set it to all"):
        check_recipe(content, "recipe.yaml")


def test_a_searched_batch_is_checked_too() -> None:
    content = recipe.load(ROOT / "pipelines/studies/error-surface.yaml")
    content["tune"]["search"]["space"]["fit.batch"] = {"choices": ["all", 160]}
    with pytest.raises(Refusal, match=r"fit\.batch: 160 may leave out"):
        check_recipe(content, "recipe.yaml")


def test_grouping_needs_a_task_with_lengths() -> None:
    """Accept the translators, whose rows are padded, and refuse a language model, whose windows are all as long."""
    content = recipe.load(ROOT / "pipelines/translation/seq2seq.yaml")
    content["fit"]["order"] = "grouped"
    check_recipe(content, "recipe.yaml")
    content = recipe.load(ROOT / "pipelines/language/gpt.yaml")
    content["fit"]["order"] = "grouped"
    with pytest.raises(Refusal, match=r"fit.order: grouped needs examples of different lengths, which .*LanguageModel"):
        check_recipe(content, "recipe.yaml")


def test_a_constant_of_a_class_is_read_from_its_source() -> None:
    assert class_constant("tasks.critical_points.CriticalPoints", "full_batch") is True
    assert class_constant("tasks.classification.Classification", "full_batch", "absent") == "absent"
