"""Text classification: networks that ignore padding, class weights, and scores as in scikit-learn."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torch.nn import functional as F

from components.errors import Refusal
from components.metrics.classification import class_scores
from components.models.bag_of_words import BagOfWords
from components.models.text_cnn import TextCNN
from components.models.text_gru import TextGRU
from components.models.text_transformer import TextTransformer
from components.tasks.text_classification import TextClassification
from components.tokens.vocabulary import join_vocabulary
from components.training.task import Shard, Spec

TOKENIZER = join_vocabulary(["<pad>", "<unk>", *"abcdefgh"], "char", ["<pad>", "<unk>"])
COLUMNS = {"token": (6,), "label": ()}
SPEC = Spec(COLUMNS, ("no", "yes"), {"labels": {"0": 30, "1": 10}}, tokenizers={"token": TOKENIZER.json})
MODELS = [BagOfWords, TextCNN, TextGRU, TextTransformer]


@pytest.mark.parametrize("model", MODELS)
def test_padding_changes_nothing(model: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = model(vocabulary=10, length=6, classes=3).eval()
    tokens = torch.randint(1, 10, (4, 6))
    longer = F.pad(tokens, (0, 5))
    torch.testing.assert_close(net(longer), net(tokens))
    assert torch.isfinite(net(torch.zeros(2, 6, dtype=torch.long))).all()


def test_only_the_baseline_ignores_the_order() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, 10, (4, 6))
    for model in MODELS:
        net = model(vocabulary=10, length=6, classes=3).eval()
        nn.init.normal_(net.head.weight)
        same = torch.allclose(net(tokens), net(tokens.flip(1)), atol=1e-5)
        assert same == (model is BagOfWords), model


def test_the_bag_of_words_is_logistic_regression_on_counts() -> None:
    net = BagOfWords(vocabulary=10, length=4, classes=2, weighting="count")
    nn.init.normal_(net.head.weight)
    counts = np.zeros(10)
    counts[[3, 5]] = 2, 1
    expected = net.head.weight.detach().numpy() @ (counts / np.sqrt(5)) + net.head.bias.detach().numpy()
    assert net(torch.tensor([[3, 5, 3, 0]]))[0].detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_a_text_shorter_than_a_filter_is_read() -> None:
    assert TextCNN(vocabulary=10, length=2, classes=2, widths=[5])(torch.ones(1, 2, dtype=torch.long)).shape == (1, 2)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    task = TextClassification(partial(BagOfWords), weights="balanced")
    state = task.setup(SPEC)
    labels = np.repeat([0, 1], [30, 10])
    weights = torch.tensor(compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)).float()
    torch.testing.assert_close(task.class_weights, weights)
    batch = {"token": torch.randint(1, 10, (8, 6)), "label": torch.arange(8) % 2}
    loss, _ = task.loss(state, Shard(batch, torch.Generator(), 0))
    logits = state.modules["net"](batch["token"])
    expected = (F.cross_entropy(logits, batch["label"], reduction="none") * weights[batch["label"]]).mean()
    torch.testing.assert_close(loss, expected)
    assert task.objective() is None, "the score 'loss' has no weights"
    assert TextClassification(partial(BagOfWords)).objective() == "loss"


def test_class_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    for classes, examples in ((2, 60), (5, 60), (9, 12)):  # the last with classes that do not occur
        label, predicted = random.integers(0, classes, (2, examples))
        scores = class_scores(predicted, label)
        for name, function in (
            ("f1", metrics.f1_score),
            ("precision", metrics.precision_score),
            ("recall", metrics.recall_score),
        ):
            expected = function(label, predicted, average="macro", zero_division=0)
            assert scores[f"macro_{name}"] == pytest.approx(expected)


def test_mistakes_are_readable_and_data_without_texts_refused() -> None:
    task = TextClassification(partial(BagOfWords))
    state = task.setup(SPEC)
    targets = {"token": np.array([[2, 3, 1, 0, 0, 0], [4, 0, 0, 0, 0, 0]]), "label": np.array([1, 0])}
    predictions = {"label": np.array([0, 0]), "probability": np.array([[0.9, 0.1], [0.8, 0.2]])}
    drawn = task.draw(state, predictions, targets)
    assert drawn["mistakes"] == "yes taken for no (p = 0.90): ab<unk>\n"
    assert task.score(predictions, targets)["accuracy"] == 0.5
    with pytest.raises(Refusal, match="TextClassification needs texts with a tokenizer"):
        TextClassification(partial(BagOfWords)).setup(Spec({"image": (4, 4, 1)}, ("a", "b"), {}))
