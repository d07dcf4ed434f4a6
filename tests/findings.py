"""List what each search shows, as its recipe's header and docs/decisions.md state it; test_findings.py checks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]  # dotted key -> value; a tuple: any of its values; None: also a key that a trial lacks


@dataclass(frozen=True)
class Finding:
    """Every trial with the values `high` has a greater score than every trial with the values `low`."""

    claim: str
    score: str
    high: Values
    low: Values
    least: float | None  # difference, more than the spread over folds or seeds; None: they differ by less than that
    same_fits: bool = False  # the trials decode the same fits differently, so the spread over fits may be greater


RATE, MODEL, OPTIMIZER = "task.optimizer.lr", "task.model.use", "task.optimizer.use"
KIND, CELL, WINDOW = "task.model.kind", "task.model.cell", "task.model.window"
ACTIVATION, EXAMPLES, TWO_WAY = "task.model.activation", "fit.examples", "task.model.bidirectional"
BLOCKS, SHORTCUTS = "task.model.blocks", "task.model.shortcuts"
DOWN, POOL, PADDING, KERNEL = "task.model.down", "task.model.pool", "task.model.padding", "task.model.kernel"
NORM, AUGMENT, MIX = "task.model.norm.use", "task.augment", "task.mix.use"
CRITERION, NORMALISE, SCALE, DECAY = "task.criterion", "task.normalise", "task.scale", "task.optimizer.weight_decay"
LAYER, WIDTHS = "task.model.transformer.use", "task.model.widths"
TRANSFORMER = "layers.spatial_transformer.SpatialTransformer"
SHIFTS = [{"use": "augment.crop.RandomCrop", "padding": 2}]
AFFINE = [{"use": "augment.affine.RandomAffine", "degrees": 10, "translate": 0.1}]
MLP, SOFTMAX, LENET, VGG = (f"models.{name}" for name in ("mlp.MLP", "softmax.Softmax", "lenet.LeNet", "vgg.VGG"))
SGD, ADAGRAD, RMSPROP, ADAM = (f"optimizers.{name}" for name in ("sgd", "adagrad", "rmsprop", "adam"))
START, BODY = "task.start", "task.body_rate"
SOURCE: Values = {START: "results/transfer/source/model"}
MOMENTUM = "task.optimizer.momentum"
LINE: Values = {"task.model.hidden": None}
SMALL_STEPS: Values = {OPTIMIZER: SGD, RATE: 0.01, MOMENTUM: None}

FINDINGS: dict[str, list[Finding]] = {
    "attention/readers": [
        Finding("few tokens are not enough", "accuracy", {CELL: "gru", EXAMPLES: 256}, {KIND: "cnn"}, 0.6),
        Finding("a GRU is as good", "accuracy", {KIND: "self-attention", EXAMPLES: 256}, {CELL: "gru"}, None),
    ],
    "bert/code-words": [
        Finding("pretraining does not help", "f1", {"task.random": False}, {"task.random": True}, None),
    ],
    "bert/digits": [
        Finding("pretraining helps", "accuracy", {START: "results/bert/patches/model"}, {START: None}, 0.15),
    ],
    "language/blanks": [
        Finding("the text behind a blank helps", "accuracy", {TWO_WAY: True}, {TWO_WAY: False}, 0.1),
    ],
    "language/partitioning": [
        Finding(
            "a carried state helps in order",
            "perplexity",
            {"fit.order": "sequential", "task.carry": False},
            {"fit.order": "sequential", "task.carry": True},
            0.08,
        ),
        Finding(
            "the order alone does nothing",
            "perplexity",
            {"fit.order": "sequential", "task.carry": False},
            {"fit.order": "shuffled"},
            None,
        ),
    ],
    "sequence/hidden-markov": [
        Finding("one direction is not enough", "gap", {TWO_WAY: False}, {TWO_WAY: True}, 0.01),
        Finding("256 are too few", "gap", {TWO_WAY: True, EXAMPLES: 256}, {TWO_WAY: True, EXAMPLES: 1024}, 0.015),
        Finding("4,096 come closer", "gap", {TWO_WAY: True, EXAMPLES: 1024}, {TWO_WAY: True, EXAMPLES: 4096}, 0.005),
    ],
    "sequence/recall": [
        Finding("a state remembers more", "accuracy", {CELL: "gru"}, {WINDOW: (4, 8)}, 0.3),
        Finding("4 tokens suffice for 4", "error_04", {WINDOW: (4, 8)}, {CELL: "gru"}, None),
        Finding("4 tokens fail for 5", "error_05", {WINDOW: 4}, {WINDOW: 8}, 0.8),
        Finding("8 tokens fail for 9", "error_09", {WINDOW: 8}, {CELL: "gru"}, 0.8),
    ],
    "studies/augmentation": [
        Finding("shifts help", "accuracy", {AUGMENT: SHIFTS, MIX: None}, {AUGMENT: None}, 0.2),
        Finding("affine moves help less", "accuracy", {AUGMENT: SHIFTS, MIX: None}, {AUGMENT: AFFINE}, 0.1),
        Finding("mixup alone does not help", "accuracy", {AUGMENT: None}, {AUGMENT: None}, None),
    ],
    "studies/bad-start": [
        Finding(
            "cross-entropy has a gradient where MSE has none",
            "gradient_norm",
            {CRITERION: "cross_entropy", SCALE: 100},
            {CRITERION: "mse", SCALE: 100},
            2.5,
        ),
        Finding(
            "wrong and sure: MSE's gradient vanishes",
            "gradient_norm",
            {CRITERION: "mse", SCALE: 1},
            {CRITERION: "mse", SCALE: 100},
            0.25,
        ),
    ],
    "studies/batch-norm": [
        Finding(
            "it helps at small rates",
            "accuracy",
            {NORM: "layers.batch_norm.BatchNorm"},
            {NORM: None, RATE: (0.001, 0.003)},
            0.06,
        ),
        Finding(
            "without it large rates fail",
            "accuracy",
            {NORM: "layers.batch_norm.BatchNorm"},
            {NORM: None, RATE: (0.03, 0.1)},
            0.7,
        ),
    ],
    "studies/batch-sizes": [
        Finding("many steps help", "accuracy", {"fit.batch": (4, 16, 64)}, {"fit.batch": (256, 800)}, 0.05),
        Finding("one step per epoch is too few", "accuracy", {"fit.batch": 256}, {"fit.batch": 800}, 0.15),
        Finding("many steps cost time", "seconds", {"fit.batch": 4}, {"fit.batch": (16, 64, 256, 800)}, 0.3),
        Finding("large batches see less noise", "noise_scale", {"fit.batch": (16, 64)}, {"fit.batch": (256, 800)}, 20),
    ],
    "studies/clipping": [
        Finding(
            "only the norm's bound helps",
            "perplexity",
            {"fit.clip_by": ("none", "value")},
            {"fit.clip_by": "norm"},
            1000,
        ),
    ],
    "studies/convexity": [
        Finding("an MLP is not convex", "barrier", {MODEL: MLP}, {MODEL: SOFTMAX}, 0.2),
    ],
    "studies/convolution": [
        Finding("convolutions beat dense layers", "accuracy", {MODEL: VGG}, {MODEL: MLP}, 0.15),
    ],
    "studies/depth": [
        Finding(
            "the deep plain net fits worse than the shallow one",
            "train_loss",
            {SHORTCUTS: False, BLOCKS: (5, 9)},
            {SHORTCUTS: False, BLOCKS: (1, 3)},
            0.9,
        ),
        Finding(
            "shortcuts let the deep net fit",
            "train_accuracy",
            {SHORTCUTS: True, BLOCKS: (5, 9)},
            {SHORTCUTS: False, BLOCKS: (5, 9)},
            0.7,
        ),
        Finding("a shallow net needs none", "train_accuracy", {SHORTCUTS: True, BLOCKS: 1}, {BLOCKS: 1}, None),
    ],
    "studies/downsampling": [
        Finding("pooling beats strides", "accuracy", {DOWN: ("max", "average")}, {DOWN: "stride"}, 0.15),
        Finding("the maximum beats the average", "accuracy", {DOWN: "max"}, {DOWN: "average"}, 0.05),
    ],
    "studies/dropout": [
        Finding("much of it costs", "train_accuracy", {"task.model.dropout": 0}, {"task.model.dropout": 0.8}, 0.08),
        Finding(
            "a little does not help", "accuracy", {"task.model.dropout": 0}, {"task.model.dropout": (0.2, 0.5)}, None
        ),
    ],
    "studies/early-stopping": [
        Finding("it lowers the loss", "loss", {"fit.patience": None}, {"fit.patience": 2}, 0.3),
        Finding("not the mistakes", "accuracy", {"fit.patience": None}, {"fit.patience": (2, 5, 10)}, None),
    ],
    "studies/error-surface": [
        Finding("bytes make a narrow valley", "largest", {NORMALISE: False}, {NORMALISE: True}, 60_000),
    ],
    "studies/feature-normalisation": [
        Finding(
            f"bytes are slower at any rate, {12 * epochs} steps",
            "loss",
            {NORMALISE: False, "fit.epochs": epochs},
            {NORMALISE: True, RATE: 0.1, "fit.epochs": epochs},
            least,
        )
        for epochs, least in ((1, 5.0), (3, 2.0), (10, 1.0), (30, 0.8))
    ],
    "studies/gradient-descent": [
        Finding("batch 1 comes furthest in an epoch", "accuracy", {"fit.batch": 1}, {"fit.batch": 10}, 0.04),
        Finding("minibatches come further", "accuracy", {"fit.batch": 10}, {"fit.batch": 100}, 0.5),
        Finding("one step per epoch is least", "accuracy", {"fit.batch": 100}, {"fit.batch": "all"}, 0.1),
        Finding("steps cost time", "seconds", {"fit.batch": 1}, {"fit.batch": (10, 100, "all")}, 0.2),
    ],
    "studies/gradient-variance": [
        Finding("one example is noisier than 10", "variance", {"fit.batch": 1}, {"fit.batch": 10}, 13),
        Finding("10 are noisier than 50", "variance", {"fit.batch": 10}, {"fit.batch": 50}, 1),
        Finding("all rows have no variance", "variance", {"fit.batch": 50}, {"fit.batch": "all"}, 0.2),
    ],
    "studies/k-fold": [
        Finding("the MLP beats the linear model", "accuracy", {MODEL: MLP}, {MODEL: SOFTMAX}, 0.02),
        Finding("LeNet needs more steps", "accuracy", {MODEL: SOFTMAX}, {MODEL: LENET}, 0.07),
    ],
    "studies/kernels": [
        Finding("two small kernels beat a large one", "accuracy", {KERNEL: 3}, {KERNEL: 5}, 0.1),
    ],
    "studies/learning-rates": [
        Finding(
            "Adam and RMSProp work over three decades, SGD at one rate",
            "accuracy",
            {OPTIMIZER: (ADAM, RMSPROP), RATE: (1e-3, 1e-2, 1e-1)},
            {OPTIMIZER: SGD, RATE: (1e-4, 1e-3, 1e-2, 1.0)},
            0.25,
        ),
        Finding(
            "Adagrad works at two rates",
            "accuracy",
            {OPTIMIZER: ADAGRAD, RATE: (1e-2, 1e-1)},
            {OPTIMIZER: ADAGRAD, RATE: (1e-4, 1e-3, 1.0)},
            0.3,
        ),
    ],
    "studies/losses": [
        Finding(
            "cross-entropy is ahead after as many steps",
            "loss",
            {CRITERION: "mse", RATE: 0.1, "fit.epochs": epochs},
            {CRITERION: "cross_entropy", RATE: 0.1, "fit.epochs": epochs},
            least,
        )
        for epochs, least in ((1, 0.9), (2, 0.9), (5, 0.3), (10, 0.1))
    ]
    + [
        Finding(
            "MSE takes 80 steps to the loss that cross-entropy has after 32",
            "loss",
            {CRITERION: "cross_entropy", RATE: 0.1, "fit.epochs": 2},
            {CRITERION: "mse", RATE: 0.1, "fit.epochs": 5},
            None,
        )
    ],
    "studies/optimizers": [
        Finding("momentum makes up for a small rate", "accuracy", {MOMENTUM: 0.9}, SMALL_STEPS, 0.1),
        Finding("a larger rate does as well", "accuracy", {OPTIMIZER: SGD, RATE: 0.1}, {OPTIMIZER: ADAM}, None),
    ],
    "studies/padding": [
        Finding("a mirror image is best", "accuracy", {PADDING: "reflect"}, {PADDING: "zeros"}, 0.03),
        Finding("the other side is worst", "accuracy", {PADDING: ("zeros", "replicate")}, {PADDING: "circular"}, 0.08),
    ],
    "studies/pooling": [
        Finding("both are as good", "accuracy", {POOL: "average", RATE: 0.01}, {POOL: "max", RATE: 0.01}, None),
        Finding("the maximum fits faster", "train_loss", {POOL: "average", RATE: 0.01}, {POOL: "max", RATE: 0.01}, 0.5),
    ],
    "studies/receptive-field": [
        Finding(
            "a larger field helps",
            "accuracy",
            {"task.model.convolutions": [3, 3]},
            {"task.model.convolutions": [1, 1]},
            0.05,
        ),
    ],
    "studies/regression": [
        Finding("a line is not enough", "mse", LINE, {ACTIVATION: ("sigmoid", "relu", "hard_sigmoid")}, 0.6),
        Finding(
            "the three sums are as good", "mse", {ACTIVATION: "sigmoid"}, {ACTIVATION: ("relu", "hard_sigmoid")}, None
        ),
        Finding("MAE changes the line's errors little", "mae", LINE | {CRITERION: "mse"}, LINE, None),
        Finding("nor its squares", "mse", LINE | {CRITERION: "mae"}, LINE, None),
    ],
    "studies/schedules": [
        Finding(
            "none is better beyond the noise",
            "accuracy",
            {"fit.schedule.use": "schedules.cosine"},
            {"fit.schedule.use": ("schedules.constant", "schedules.steps", "schedules.exponential")},
            None,
        ),
    ],
    "studies/spatial-transformer": [
        Finding("wider convolutions are better", "accuracy", {WIDTHS: [12, 24, 43]}, {LAYER: TRANSFORMER}, 0.1),
        Finding("the layer does not help", "accuracy", {LAYER: None, WIDTHS: [8, 16, 32]}, {LAYER: TRANSFORMER}, None),
    ],
    "studies/weight-decay": [
        Finding("a little does not help", "accuracy", {DECAY: 0}, {DECAY: (0.001, 0.01)}, None),
        Finding("much of it costs", "train_accuracy", {DECAY: (0, 0.001, 0.01)}, {DECAY: 0.1}, 0.08),
    ],
    "transfer/finetune": [
        Finding("the source's weights help", "accuracy", SOURCE | {BODY: 1.0}, {START: None, BODY: 1.0}, 0.1),
        Finding("frozen, they help too", "accuracy", SOURCE | {BODY: 0.0}, {START: None, BODY: (0.1, 1.0)}, 0.02),
        Finding("but less", "accuracy", SOURCE | {BODY: 1.0}, SOURCE | {BODY: 0.0}, 0.06),
        Finding(
            "a slow body is as good",
            "accuracy",
            SOURCE | {BODY: 0.1, RATE: 0.1},
            SOURCE | {BODY: 1.0, RATE: 0.03},
            None,
        ),
    ],
    "translation/beams": [
        Finding(
            "more candidates help", "bleu", {"task.beam": 8, "task.penalty": 0}, {"task.beam": 1}, 0.05, same_fits=True
        ),
        Finding(
            "the length penalty does not",
            "bleu",
            {"task.beam": (2, 4, 8), "task.penalty": 0},
            {"task.beam": (2, 4, 8), "task.penalty": 0.75},
            0.02,
            same_fits=True,
        ),
    ],
    "translation/encoders": [
        Finding(
            "two seeds do not rank them",
            "bleu",
            {"task.model.encoder": "self-attention"},
            {"task.model.encoder": ("cnn", "recurrent")},
            None,
        ),
    ],
    "translation/sampling": [
        Finding("two seeds do not rank the shares", "bleu", {"task.sampling": (0.25, 0.5)}, {"task.sampling": 0}, None),
        Finding(
            "two parallel passes equal one after the other",
            "bleu",
            {"task.passes": "parallel", "task.sampling": (0.25, 0.5)},
            {"task.passes": "sequential", "task.sampling": (0.25, 0.5)},
            None,
        ),
    ],
}
BEST_SETTING = "it looks for one good setting, and its trials end after different numbers of"
NOTHING_COMPARED = {
    "bert/grid": "it looks for one good setting with one seed",
    "language/ngram": f"{BEST_SETTING} folds",
    "language/ngram-time-machine": f"{BEST_SETTING} folds",
    "studies/search": f"{BEST_SETTING} epochs",
}
