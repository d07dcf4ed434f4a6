"""Check that every measured system beats, on held-out data, the answers that nothing was learned for.

The figures are those of the records (docs/records), which `trainyard results --measure RECIPE` makes at full size.
tests/test_contract.py trains the same systems in small, where a falling loss is all that can be asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.recipes import recipe
from pipelines.commands.results import record
from pipelines.commands.results.scratch import without_pretraining
from tests.test_contract import SYSTEMS

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.relative_to(ROOT) for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
MEASURED = [path for path in RECIPES if (ROOT / record.record_path(path)).is_file()]
# The least part of the way from the better baseline to a perfect score, in every seed.
MARGIN = 0.4
# System -> another margin, and why.
MARGINS = {
    "attention/average": (-0.05, "it is the constant answer"),
    "attention/kernel": (0.3, "its fixed width is too wide"),
    "bert/code-words": (0.25, "the held-out files are of other modules, with words of their own"),
    "bert/cola": (0.01, "most sentences are acceptable: a constant answer is right for 0.691"),
    "bert/grid": (0.2, "the held-out files are of other modules, with words of their own"),
    "bert/rte": (0.02, "1,244 pairs teach a small model little"),
    "bert/wnli": (-0.5, "its test questions repeat sentences of training with the other answer"),
    "bert/wnut17": (0.25, "its test entities are new and rare on purpose"),
    "generative/collapse": (-2.0, "it demonstrates how a GAN fails to learn"),
    "generative/critic-steps": (-0.05, "four of its five seeds still leave out modes"),
    "generative/dropping": (-0.4, "it demonstrates how a GAN fails to learn"),
    "translation/attention-multi30k": (0.3, "a BLEU of 1 would be the reference word for word"),
    "translation/attention-tatoeba": (0.25, "a BLEU of 1 would be the reference word for word"),
    "translation/seq2seq-multi30k": (0.15, "one vector for a whole caption is too little"),
    "translation/transformer-multi30k": (0.3, "a BLEU of 1 would be the reference word for word"),
    "translation/reward": (-0.1, "its baseline is the trained start, and BLEU does not follow the reward"),
    "segmentation/camvid": (0.2, "60 pictures do not teach it the classes of few pixels"),
}
# Monitored scores that do not measure how well something was learned, and what they are.
FACTS = {
    "smallest": "an eigenvalue of the Hessian",
    "variance": "that of a gradient",
    "barrier": "the loss on the line between two networks",
}


def share_of_the_way(score: float, baseline: float, direction: str) -> float:
    """Return how far a score goes from the baseline (0) to perfection (1): a score of 1, or an error of 0."""
    perfect = 1.0 if direction == "max" else 0.0
    return (score - baseline) / (perfect - baseline)


@pytest.mark.parametrize(
    ("score", "baseline", "direction", "share"),
    [(0.55, 0.1, "max", 0.5), (1.0, 0.1, "max", 1.0), (0.05, 0.1, "max", -0.0556), (0.25, 1.0, "min", 0.75)],
)
def test_the_way_from_a_baseline_is_measured_to_the_best_score(
    score: float, baseline: float, direction: str, share: float
) -> None:
    assert share_of_the_way(score, baseline, direction) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_system_beats_its_baselines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    measured = record.read_record(path)
    assert measured is not None
    assert "untrained" in measured.baselines
    if measured.monitor in FACTS:
        pytest.skip(f"{measured.monitor} is {FACTS[measured.monitor]}")
    choose = max if measured.direction == "max" else min
    finite = [value for value in measured.baselines.values() if np.isfinite(value)]
    baseline = choose(finite)
    margin = MARGINS.get(f"{path.parent.name}/{path.stem}", (MARGIN, ""))[0]
    for seed, score in zip(measured.seeds, measured.scores[measured.monitor], strict=True):
        share = share_of_the_way(score, baseline, measured.direction)
        assert share >= margin, f"seed {seed}: {measured.monitor} {score:.4g} against {baseline:.4g} without learning"


# Systems whose pretrained weights do not help in every seed, and why.
NO_GAIN = {"bert/wnli": "its test questions repeat sentences of training with the other answer"}


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_pretraining_beats_training_from_scratch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare, seed by seed, a fine-tuned network with the same one from scratch, trained for as many steps."""
    monkeypatch.chdir(ROOT)
    measured = record.read_record(path)
    assert measured is not None
    content = recipe.load(path)
    # a search has both arms among its trials: see tests/findings.py
    assert bool(measured.scratch) == ("tune" not in content and without_pretraining(content) is not None)
    if not measured.scratch or f"{path.parent.name}/{path.stem}" in NO_GAIN:
        return
    sign = 1 if measured.direction == "max" else -1
    pairs = zip(measured.scores[measured.monitor], measured.scratch[measured.monitor], strict=True)
    assert all(sign * pretrained > sign * scratch for pretrained, scratch in pairs)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_figure_has_enough_seeds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for five seeds of what takes less than a minute, and for three of the rest; folds of a search are others."""
    monkeypatch.chdir(ROOT)
    measured = record.read_record(path)
    assert measured is not None
    if "tune" in recipe.load(path):
        return
    enough = 5 if np.mean(measured.seconds) < 60 else 3
    assert len(measured.seeds) >= enough


def test_every_system_on_embedded_data_has_a_record() -> None:
    embedded = {name for name in SYSTEMS if not name.startswith("flagship/")}
    measured = {f"{path.parent.name}/{path.stem}" for path in MEASURED}
    assert sorted(embedded - measured) == [], "measure it: trainyard results --measure RECIPE"


def test_other_margins_belong_to_recipes() -> None:
    assert MARGINS.keys() | NO_GAIN.keys() <= {f"{path.parent.name}/{path.stem}" for path in RECIPES}
