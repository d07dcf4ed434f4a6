"""Picture classification: softmax cross-entropy, augmentation on the batch, fine-tuning from another run's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..metrics.classification import classification_scores, confusion_counts
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task, Update


class Classification(Task):
    """Labels one picture.

    model: factory called with (channels, size, classes); its output layer is named `head`. start: a folder written by
    an earlier stage: all but the output layer is copied from its weights (notes: fine-tuning); or a .safetensors file,
    of which is copied what fits (models/pretrained.py). The body then learns at `body_rate` times the new head's rate
    (0 freezes it, with its batch statistics and dropout). augment: batch transforms, applied in training alone. resize:
    side of the squares that pictures are resized to on the device (bilinear), last of all; files stay small. mix:
    `augment.mix.MixUp` or `CutMix`, after them; the labels are mixed alike, and the training accuracy is the share of
    the mixed labels that the prediction gets. criterion: "mse" is the squared distance of the probabilities from the
    truth, there to be compared (notes: why cross-entropy). normalise: false feeds the network the bytes 0..255 as they
    are (notes: feature normalisation).
    """

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")
    targets: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = sgd,
        augment: list[Callable] | None = None,
        mix: Callable | None = None,
        label_smoothing: Fraction = 0.0,
        criterion: Literal["cross_entropy", "mse"] = "cross_entropy",
        start: str | None = None,
        body_rate: NonNegative = 1.0,
        resize: Count | None = None,
        normalise: bool = True,
    ) -> None:
        if criterion == "mse" and label_smoothing:
            raise Refusal("task.label_smoothing: is for cross-entropy; leave it out with criterion: mse")
        self.model, self.optimizer = model, optimizer
        self.augment = [transform() for transform in augment or []]
        self.mix = None if mix is None else mix()
        self.label_smoothing, self.criterion = label_smoothing, criterion
        self.start, self.body_rate, self.resize, self.normalise = start, body_rate, resize, normalise
        self.scale, self.byte_scale, self.shift = torch.ones(1), torch.ones(1), torch.zeros(1)
        self.classes: list[str] = []

    def setup(self, spec: Spec) -> State:
        if "image" not in spec.columns:
            raise Refusal(f"task: Classification needs a column 'image', the data have: {', '.join(spec.columns)}")
        height, width, channels = spec.columns["image"]
        self.classes = list(spec.classes)
        size = (self.resize, self.resize) if self.resize else (height, width)
        net = self.model(channels=channels, size=size, classes=len(spec.classes))
        if self.start is not None:
            copy = pretrained.copy_weights if _is_file(self.start) else copy_body
            copy(net, Path(self.start), "task.start")
        mean, std = (torch.tensor(spec.statistics[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        if not self.normalise:
            mean, std = torch.zeros_like(mean), torch.full_like(std, 1 / 255)
        self.scale, self.shift = 1 / std, -mean / std
        self.byte_scale = self.scale / 255
        head = list(net.get_submodule("head").parameters())
        own = {id(p) for p in head}
        body = [p for p in net.parameters() if id(p) not in own]
        optimizer = self.optimizer([{"params": head}, *([{"params": body}] if body else [])])
        for group in optimizer.param_groups[1:]:
            group["lr"] *= self.body_rate
        if self.body_rate == 0:
            net.requires_grad_(False)
            net.get_submodule("head").requires_grad_(True)
        return State(modules={"net": net}, optimizers={"net": optimizer})

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        if self.body_rate == 0:  # a frozen body behaves as in evaluation: its moving averages stay what they were
            for name, part in state.modules["net"].named_children():
                part.train(name == "head")
        return update("net", self.loss)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, H, W, C] uint8 pictures, [B] labels -> cross-entropy, accuracy."""
        images = self.pixels(shard.batch, shard.generator)
        labels = shard.batch["label"]
        if self.mix is not None:
            images, share = self.mix(images, shard.generator)
            truth = F.one_hot(labels, len(self.classes)).float()
            labels = torch.lerp(truth.roll(1, 0), truth, share[:, None])
        logits = state.modules["net"](images).float()
        if self.criterion == "mse":
            truth = F.one_hot(labels, logits.shape[1]) if self.mix is None else labels
            loss = (logits.softmax(1) - truth).square().sum(1).mean()
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        said = logits.detach().argmax(1)
        right = (said == labels).float() if self.mix is None else labels.gather(1, said[:, None])
        return loss, {"accuracy": right.mean()}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"label": [B], "probability": [B, K]}."""
        probability = state.modules["net"](self.pixels(batch)).float().softmax(1)
        return {"label": probability.argmax(1), "probability": probability}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return classification_scores(predictions["probability"], targets["label"])

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        return predictions["label"] == targets["label"]

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """The confusion matrix."""
        from ..drawings import figures

        counts = confusion_counts(predictions["label"], targets["label"], len(self.classes))
        return {"confusion": figures.draw_confusion(counts, self.classes, "Confusion")}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Where the body's weights came from."""
        if self.start is None:
            return {}
        if not _is_file(self.start):
            return {"start": f"all but the output layer from {self.start}"}
        return {"start": str(pretrained.match_weights(state.modules["net"], Path(self.start), "task.start"))}

    def pixels(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [B, H, W, C] -> normalised float [B, C, H, W], in the channels-last order it is stored in."""
        images = batch["image"].permute(0, 3, 1, 2).float()
        if self.scale.device != images.device:
            self.scale, self.byte_scale, self.shift = (
                t.to(images.device) for t in (self.scale, self.byte_scale, self.shift)
            )
        if generator is None or not self.augment:
            return self._resized(images.mul_(self.byte_scale).add_(self.shift))
        images = images.div_(255)
        for transform in self.augment:
            images = transform(images, generator)
        return self._resized(images * self.scale + self.shift)

    def _resized(self, images: Tensor) -> Tensor:
        if self.resize is None:
            return images
        return F.interpolate(images, (self.resize, self.resize), mode="bilinear", antialias=True)


def _is_file(start: str) -> bool:
    """A folder, which may be missing, has a name without a suffix, or is one."""
    return bool(Path(start).suffix) and not Path(start).is_dir()


def copy_body(net: nn.Module, folder: Path, where: str) -> None:
    """Copies all but the output layer from `folder`/weights.safetensors (an earlier stage's module "net")."""
    file = folder / "weights.safetensors"
    if not file.is_file():
        raise Refusal(f"{where}: no {file}; run the stage that writes it (dvc repro) or drop 'start'")
    saved = {k.removeprefix("net."): v for k, v in load_file(file).items() if k.startswith("net.")}
    body = {name: value for name, value in saved.items() if not name.startswith("head.")}
    own = {name: value for name, value in net.state_dict().items() if not name.startswith("head.")}
    wrong = sorted(own.keys() ^ body.keys()) or [name for name in own if own[name].shape != body[name].shape]
    if wrong:
        raise Refusal(f"{where}: {file} holds another network ({wrong[0]} differs); use one model section for both")
    net.load_state_dict(body, strict=False)
