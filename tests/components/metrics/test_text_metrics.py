"""The metrics of GLUE, of named entities and of SQuAD against the libraries that define them."""

from __future__ import annotations

import numpy as np
import pytest

from components.metrics.agreement import f1_score, matthews_correlation, pearson_correlation, spearman_correlation
from components.metrics.answers import answer_f1, exact_answer
from components.metrics.entities import entity_scores


@pytest.mark.parametrize("classes", [2, 4])
def test_agreement_of_classes_is_that_of_scikit_learn(classes: int) -> None:
    from sklearn import metrics

    random = np.random.default_rng(classes)
    label = random.integers(0, classes, 200)
    predicted = np.where(random.random(200) < 0.6, label, random.integers(0, classes, 200))
    assert matthews_correlation(predicted, label) == pytest.approx(metrics.matthews_corrcoef(label, predicted))
    expected = metrics.f1_score(label == 1, predicted == 1)
    assert f1_score(predicted, label) == pytest.approx(expected)
    assert matthews_correlation(np.zeros(200), label) == 0
    assert f1_score(np.zeros(3), np.zeros(3)) == 0


def test_agreement_of_scores_is_that_of_scipy() -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    first = random.integers(0, 6, 300).astype(np.float32)  # with ties
    second = first + random.normal(size=300)
    assert pearson_correlation(first, second) == pytest.approx(stats.pearsonr(first, second)[0])
    assert spearman_correlation(first, second) == pytest.approx(stats.spearmanr(first, second)[0])
    assert pearson_correlation(first, np.ones(300)) == 0


def test_entities_are_those_of_seqeval() -> None:
    from seqeval import metrics

    random = np.random.default_rng(0)
    names = ["O", "O", "B-a", "I-a", "B-b", "I-b"]
    truth = [random.choice(names, random.integers(1, 12)).tolist() for _ in range(200)]
    predicted = [
        [tag if random.random() < 0.7 else str(random.choice(names)) for tag in sentence] for sentence in truth
    ]
    scores = entity_scores(predicted, truth)
    assert scores["f1"] == pytest.approx(metrics.f1_score(truth, predicted))
    assert scores["precision"] == pytest.approx(metrics.precision_score(truth, predicted))
    assert scores["recall"] == pytest.approx(metrics.recall_score(truth, predicted))
    assert entity_scores([["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("The Denver Broncos", "Denver Broncos"),
        ("Broncos of Denver", "the Denver Broncos!"),
        ("1,000", "1000"),
        ("", "a thing"),
        ("the", "an"),
        ("red red dog", "red dog dog"),
    ],
)
def test_answers_are_scored_as_squad_does(answer: str, truth: str) -> None:
    from torchmetrics.functional.text import squad

    prediction = {"prediction_text": answer, "id": "q"}
    expected = squad([prediction], [{"answers": {"text": [truth], "answer_start": [0]}, "id": "q"}])
    assert exact_answer(answer, truth) == float(expected["exact_match"]) / 100
    assert answer_f1(answer, truth) == pytest.approx(float(expected["f1"]) / 100)
