"""Picture classification: softmax cross-entropy, batch augmentation, and fine-tuning from another run's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.classification import classification_scores, confusion_counts, constant_classes
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task, Update

if TYPE_CHECKING:
    from ..augment.copies import Transform


class Classification(Task):
    """Classification of single pictures.

    model: factory called with (channels, size, classes); its output layer is named `head`.
    augment: batch transforms, applied during training only.
    mix: `augment.mix.MixUp` or `CutMix`, applied after `augment`. Labels are mixed in the same way, and the training
    accuracy is the fraction of the mixed label that the prediction matches.
    criterion: "mse" is the squared distance between probabilities and one-hot labels, for comparison (notes: why
    cross-entropy).
    start: a folder that an earlier stage exported, whose weights except the output layer are copied (notes:
    fine-tuning); or a .safetensors file, from which all matching tensors are copied (models/pretrained.py).
    body_rate: learning rate of all layers but the head, as a multiple of the head's. 0 freezes them, including batch
    statistics and dropout.
    resize: side of the squares that pictures are resized to on the device (bilinear), as the last transform.
    normalise: false passes the bytes 0..255 to the network unchanged (notes: feature normalisation).
    """

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")
    targets: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., Transform]] | None = None,
        mix: Callable[..., Transform] | None = None,
        label_smoothing: Fraction = 0.0,
        criterion: Literal["cross_entropy", "mse"] = "cross_entropy",
        start: str | None = None,
        body_rate: NonNegative = 1.0,
        resize: Count | None = None,
        normalise: bool = True,
    ) -> None:
        if criterion == "mse" and label_smoothing:
            raise Refusal("task.label_smoothing: applies to cross-entropy only; leave it out with criterion: mse")
        self.model = model
        self.optimizer = optimizer
        self.augment = [transform() for transform in augment or []]
        self.mix = None if mix is None else mix()
        self.label_smoothing = label_smoothing
        self.criterion = criterion
        self.start = start
        self.body_rate = body_rate
        self.resize = resize
        self.normalise = normalise
        # A network input is pixel * scale + shift for pixels in 0..1, and byte * byte_scale + shift for bytes.
        self.scale = torch.ones(1)
        self.byte_scale = torch.ones(1)
        self.shift = torch.zeros(1)
        self.classes: list[str] = []

    def setup(self, spec: Spec) -> State:
        """Build the network, copy the weights of `start`, and give the head and the body their learning rates."""
        spec.check_columns("Classification", "image")
        height, width, channels = spec.columns["image"]
        self.classes = list(spec.classes)
        size = (self.resize, self.resize) if self.resize else (height, width)
        net = self.model(channels=channels, size=size, classes=len(spec.classes))
        pretrained.start_body(net, self.start, "task.start")
        self._set_normalisation(spec)
        return State(modules={"net": net}, optimizers={"net": self._make_optimizer(net)})

    def _set_normalisation(self, spec: Spec) -> None:
        mean, std = (torch.tensor(spec.statistics[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        if not self.normalise:
            mean = torch.zeros_like(mean)
            std = torch.full_like(std, 1 / 255)
        self.scale = 1 / std
        self.shift = -mean / std
        self.byte_scale = self.scale / 255

    def _make_optimizer(self, net: nn.Module) -> Optimizer:
        """Return an optimiser with the head and the body as parameter groups; freeze a body of rate 0."""
        head = list(net.get_submodule("head").parameters())
        head_ids = {id(p) for p in head}
        body = [p for p in net.parameters() if id(p) not in head_ids]
        groups = [{"params": head}]
        if body:
            groups.append({"params": body})
        optimizer: Optimizer = self.optimizer(groups)
        for group in optimizer.param_groups[1:]:
            group["lr"] *= self.body_rate
        if self.body_rate == 0:
            net.requires_grad_(False)
            net.get_submodule("head").requires_grad_(True)
        return optimizer

    def objective(self) -> str | None:
        """Return "loss", the cross-entropy, unless something else is trained."""
        return "loss" if self.criterion == "cross_entropy" and not self.label_smoothing else None

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Update the network; a frozen body keeps its moving averages."""
        self.hold_frozen(state)
        return update("net", self.loss)

    def hold_frozen(self, state: State) -> None:
        """Put a frozen body into evaluation mode, so that its moving averages do not change and nothing is dropped."""
        if self.body_rate == 0:
            for name, part in state.modules["net"].named_children():
                part.train(name == "head")

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the criterion's mean loss and the accuracy for pictures uint8 [B, H, W, C] with labels [B]."""
        images = self.pixels(shard.batch, shard.generator)
        labels = shard.batch["label"]
        if self.mix is not None:
            images, share = self.mix(images, shard.generator)
            one_hot = F.one_hot(labels, len(self.classes)).float()
            labels = torch.lerp(one_hot.roll(1, 0), one_hot, share[:, None])
        logits = state.modules["net"](images).float()
        if self.criterion == "mse":
            one_hot = F.one_hot(labels, logits.shape[1]) if self.mix is None else labels
            loss = (logits.softmax(1) - one_hot).square().sum(1).mean()
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        predicted = logits.detach().argmax(1)
        correct = (predicted == labels).float() if self.mix is None else labels.gather(1, predicted[:, None])
        return loss, {"accuracy": correct.mean()}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"label": [B], "probability": [B, K]}."""
        probability = state.modules["net"](self.pixels(batch)).float().softmax(1)
        return {"label": probability.argmax(1), "probability": probability}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return the metrics of `classification_scores`: accuracy, loss and more."""
        return classification_scores(predictions["probability"], targets["label"])

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return whether each prediction is correct: bool [N]."""
        return predictions["label"] == targets["label"]

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the frequencies of the training labels as probabilities, and the most frequent label."""
        return constant_classes(train["label"], len(self.classes), count)

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """Draw the confusion matrix and, for a network that states them, the receptive fields of its layers."""
        from ..drawings import figures
        from ..drawings.receptive_field import draw_receptive_fields

        counts = confusion_counts(predictions["label"], targets["label"], len(self.classes))
        drawn = {"confusion": figures.draw_confusion(counts, self.classes, "Confusion")}
        net: Any = state.modules.get("net")
        if hasattr(net, "receptive_fields"):
            fields = {field.layer: field for field in net.receptive_fields()}
            shown = {
                f"{index}": tuple(field.interval(side // field.jump // 2, side) for side in net.size)
                for index, field in enumerate(fields.values(), 1)
            }
            drawn["receptive_field"] = draw_receptive_fields(shown, net.size)
        return drawn

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the body's weights come from."""
        return pretrained.start_tags(state.modules["net"], self.start, "task.start")

    def pixels(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return network inputs float [B, C, H, W] for pictures uint8 [B, H, W, C].

        The result keeps the channels-last memory format of the data. Pass `generator` during training: it enables the
        transforms of `augment`.
        """
        images = batch["image"].permute(0, 3, 1, 2).float()
        if self.scale.device != images.device:
            self.scale, self.byte_scale, self.shift = (
                t.to(images.device) for t in (self.scale, self.byte_scale, self.shift)
            )
        if generator is None or not self.augment:
            return self._resize(images.mul_(self.byte_scale).add_(self.shift))
        images = images.div_(255)
        for transform in self.augment:
            images = transform(images, generator)
        return self._resize(images * self.scale + self.shift)

    def _resize(self, images: Tensor) -> Tensor:
        if self.resize is None:
            return images
        return F.interpolate(images, (self.resize, self.resize), mode="bilinear", antialias=True)


def refuse_noisy_layers(net: nn.Module, task: str) -> None:
    """Raise Refusal if a layer makes the loss at the same weights depend on a draw or on the shard; task: its name."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p:
            fault, remedy = f"drops values at random (p = {layer.p:g})", "set task.model.dropout: 0"
        elif getattr(layer, "running_mean", None) is not None:
            fault, remedy = "normalises by the statistics of its shard", "name a model without batch normalisation"
        else:
            continue
        raise Refusal(f"task.model: '{name}' {fault}, but {task} measures one loss at fixed weights; {remedy}")
